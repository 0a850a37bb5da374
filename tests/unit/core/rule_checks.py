"""Checks a rule's contract numerically: a part, computed from what the rule asks for, equals the whole there."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import currently_in_test_context, reject
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from flexpie.core.graph import AttributeValue, Constant, Operator, Reals
from flexpie.core.region import Interval, Region
from flexpie.core.rules import BoundOperator, LocalForm, Regions, Rule, rule_for
from flexpie.core.rules.base import GuardedRule
from flexpie.core.tensor import ElementType, TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]

_IR_VERSION = 8

_TOLERANCES = {"float16": 2e-3, "float64": 1e-12}
"""Absolute and relative, by type; 1e-5 for others."""

_REFUSALS = (
    onnx.shape_inference.InferenceError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


@dataclass(frozen=True)
class Case:
    """One node with its input arrays."""

    op_type: str
    inputs: tuple[Array | None, ...]
    """None is an omitted optional input."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    opset: int = 17
    known: frozenset[int] = frozenset()
    """Inputs whose values are known when the model is read (initializers)."""
    outputs: tuple[bool, ...] = (True,)
    """Which outputs the node has."""
    domain: str = ""

    def node(self) -> onnx.NodeProto:
        """The node, with inputs i0, i1, ... and outputs o0, o1, ..."""
        inputs = ["" if array is None else f"i{index}" for index, array in enumerate(self.inputs)]
        outputs = [f"o{index}" if there else "" for index, there in enumerate(self.outputs)]
        node = helper.make_node(self.op_type, inputs, outputs, name="node", domain=self.domain)
        for name, value in self.attributes.items():
            _set_attribute(node, name, value)
        return node


def run(case: Case) -> list[Array | None]:
    """The outputs of the whole node; None for omitted ones. Hypothesis drops what onnxruntime refuses to run."""
    try:
        return _run(case.node(), case.inputs, case.known, case.opset)
    except _REFUSALS:
        if currently_in_test_context():
            reject()
        raise


def bound_case(case: Case, results: Sequence[Array | None]) -> BoundOperator:
    """What a rule is given of a case."""
    inputs = [_spec(f"i{index}", array) for index, array in enumerate(case.inputs)]
    outputs = [_spec(f"o{index}", array) for index, array in enumerate(results)]
    operator = Operator(
        name="node",
        op_type=case.op_type,
        domain=case.domain,
        version=1 if case.domain else case.opset,
        inputs=tuple(spec.name if spec else "" for spec in inputs),
        outputs=tuple(spec.name if spec else "" for spec in outputs),
        attributes=dict(case.attributes),
    )
    constants = [_constant(array) if index in case.known else None for index, array in enumerate(case.inputs)]
    reals = [_reals(array) if index in case.known else None for index, array in enumerate(case.inputs)]
    return BoundOperator(operator, tuple(inputs), tuple(outputs), tuple(constants), tuple(reals))


def check(case: Case, wanted: Regions | None = None, seed: int = 0, *, divided: bool | None = True) -> BoundOperator:
    """Checks the contract of the case's rule for wanted regions (random ones without).

    `divided` says whether the rule must know the case (True), must leave it whole, or may do either (None).
    """
    results = run(case)
    bound = bound_case(case, results)
    rule = rule_for(bound.operator)
    assert divided is None or divided == is_divided(bound)
    if wanted is None:
        wanted = random_wanted(bound, random.Random(seed))
    produced = rule.produces(bound, wanted)
    needed = rule.needs(bound, produced)
    form = rule.local_form(bound, produced, needed)
    _check_regions(bound, wanted, produced, needed, form)
    _check_links(rule, bound, produced, needed)
    assert rule.flops(bound, produced) >= 0
    parts = _run_local(case, produced, needed, form)
    for index, (whole, part, region) in enumerate(zip(results, parts, produced, strict=True)):
        if region is None:
            continue
        assert whole is not None
        assert part is not None, f"output {index} is missing"
        expected = whole[_slices(region)]
        assert part.shape == expected.shape, f"output {index}: {part.shape} for {region} of {whole.shape}"
        if expected.dtype.kind in "fV":
            tolerance = _TOLERANCES.get(expected.dtype.name, 1e-5)
            np.testing.assert_allclose(part, expected, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(part, expected)
    return bound


def is_divided(bound: BoundOperator) -> bool:
    """Whether the operator has a rule that knows this use of it."""
    rule = rule_for(bound.operator)
    return isinstance(rule, GuardedRule) and rule.rule.supports(bound)


def random_wanted(bound: BoundOperator, source: random.Random) -> Regions:
    """Random regions of a random, non-empty choice of the outputs."""
    there = [index for index, spec in enumerate(bound.outputs) if spec is not None]
    chosen = source.sample(there, source.randint(1, len(there)))
    regions: list[Region | None] = []
    for index, spec in enumerate(bound.outputs):
        regions.append(random_region(spec.shape, source) if spec and index in chosen else None)
    return tuple(regions)


def random_region(shape: Sequence[int], source: random.Random) -> Region:
    """A random region that is not empty (but where the shape is); often whole, single or at a border."""
    intervals = []
    for length in shape:
        kind = source.choice(["whole", "single", "any", "any", "first", "last"])
        start, stop = sorted(source.sample(range(length + 1), 2)) if length else (0, 0)
        if kind == "whole":
            start, stop = 0, length
        elif kind == "single":
            stop = min(start + 1, length)
        elif kind == "first":
            start, stop = 0, stop - start
        elif kind == "last":
            start, stop = length - (stop - start), length
        intervals.append(Interval(start, stop))
    return Region(intervals)


def values(shape: Sequence[int], seed: int = 0, dtype: str = "float32") -> Array:
    """Random values: floats in [-2, 2), integers in [0, 7), booleans."""
    source = np.random.default_rng(seed)
    if dtype == "bool":
        return np.asarray(source.random(shape) < 0.5)
    if dtype.startswith("float"):
        return np.asarray(source.random(shape) * 4 - 2).astype(dtype)
    return np.asarray(source.integers(0, 7, shape)).astype(dtype)


def vector(*numbers: int) -> Array:
    """An int64 vector."""
    return np.array(numbers, dtype=np.int64)


def _check_regions(bound: BoundOperator, wanted: Regions, produced: Regions, needed: Regions, form: LocalForm) -> None:
    assert len(produced) == len(bound.outputs)
    assert len(needed) == len(bound.inputs)
    for name, regions, specs in (("needed", needed, bound.inputs), ("produced", produced, bound.outputs)):
        for index, (region, spec) in enumerate(zip(regions, specs, strict=True)):
            if region is None:
                continue
            assert spec is not None, f"{name} {index}: a region of an omitted tensor"
            assert len(region) == len(spec.shape), f"{name} {index}: {region} of {spec.shape}"
            for interval, length in zip(region, spec.shape, strict=True):
                assert 0 <= interval.start <= interval.stop <= length, f"{name}: {region} of {spec.shape}"
    for want, made in zip(wanted, produced, strict=True):
        assert want is None or (made is not None and made.contains(want)), f"{made} without {want}"
    for index in form.constants:
        assert index >= len(needed) or needed[index] is None, f"input {index} is replaced, yet needed"
    assert all(needed[index] is None for index in form.dropped), "an input is dropped, yet needed"
    for index, more in form.yields.items():
        part = produced[index]
        assert part is not None, f"output {index} is cut, yet not wanted"
        assert more.contains(part), f"output {index}: {part} cannot be cut from {more}"


def _check_links(rule: Rule, bound: BoundOperator, produced: Regions, needed: Regions) -> None:
    for index, spec in enumerate(bound.inputs):
        if spec is not None and rule.links(bound, index):
            assert spec.shape == bound.output().shape
            assert needed[index] == produced[0]


def _run_local(case: Case, produced: Regions, needed: Regions, form: LocalForm) -> list[Array | None]:
    node = case.node()
    for name, value in form.attributes.items():
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            _set_attribute(node, name, value)
    inputs: list[Array | None] = []
    for array, region in zip(case.inputs, needed, strict=True):
        inputs.append(None if array is None or region is None else np.asarray(array[_slices(region)]))
    inputs += [None] * (max(form.constants, default=-1) + 1 - len(inputs))
    for index, constant in sorted(form.constants.items()):
        inputs[index] = vector(*constant)
    inputs = [array for index, array in enumerate(inputs) if index not in form.dropped]
    del node.input[:]
    node.input.extend("" if array is None else f"i{index}" for index, array in enumerate(inputs))
    for index, region in enumerate(produced):
        if region is None:
            node.output[index] = ""
    known = case.known | form.constants.keys()
    results = _run(node, inputs, known, case.opset)
    for index, more in form.yields.items():
        array, region = results[index], produced[index]
        assert array is not None
        assert region is not None
        assert array.shape == more.shape, f"output {index}: {array.shape}, not {more}"
        results[index] = array[region.relative_to(more)]
    return results


def _run(
    node: onnx.NodeProto, inputs: Sequence[Array | None], known: frozenset[int] | set[int], opset: int
) -> list[Array | None]:
    there = {f"i{index}": np.asarray(array) for index, array in enumerate(inputs) if array is not None}
    fixed = {f"i{index}" for index in known}
    graph = helper.make_graph(
        [node],
        "case",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in there.items()
            if name not in fixed
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [numpy_helper.from_array(array, name) for name, array in there.items() if name in fixed],
    )
    opsets = [helper.make_opsetid("", opset)]
    if node.domain:
        opsets.append(helper.make_opsetid(node.domain, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    model = onnx.shape_inference.infer_shapes(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = iter(session.run(None, {name: array for name, array in there.items() if name not in fixed}))
    return [next(found) if name else None for name in node.output]


def _slices(region: Region) -> tuple[slice, ...]:
    return region.relative_to(Region.whole([0] * len(region)))


def _spec(name: str, array: Array | None) -> TensorSpec | None:
    if array is None:
        return None
    return TensorSpec(name, array.shape, ElementType("string" if array.dtype.kind == "O" else array.dtype.name))


def _constant(array: Array | None) -> Constant | None:
    if array is None or array.dtype.kind not in "iub":
        return None
    return tuple(int(item) for item in array.ravel())


def _reals(array: Array | None) -> Reals | None:
    if array is None or array.dtype.kind != "f" or array.ndim != 1:
        return None
    return tuple(float(item) for item in array)


def _set_attribute(node: onnx.NodeProto, name: str, value: AttributeValue) -> None:
    node.attribute.append(helper.make_attribute(name, list(value) if isinstance(value, tuple) else value))
