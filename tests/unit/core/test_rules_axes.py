"""Rules of normalisations and reductions, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Case, bound_case, check, run, values, vector

SEEDS = st.integers(0, 9999)
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4)

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


@given(
    op_type=st.sampled_from(REDUCTIONS),
    shape=SHAPES,
    picked=st.lists(st.booleans(), min_size=4, max_size=4),
    negative=st.booleans(),
    keep=st.integers(0, 1),
    empty=st.sampled_from((0, 1)),
    opset=st.sampled_from((7, 11, 13, 17, 18, 21)),
    seed=SEEDS,
)
def test_part_of_reduction_equals_the_whole(
    op_type: str, shape: list[int], picked: list[bool], negative: bool, keep: int, empty: int, opset: int, seed: int
) -> None:
    axes = tuple(axis for axis in range(len(shape)) if picked[axis])
    if negative and opset >= 11:
        axes = tuple(axis - len(shape) for axis in axes)
    attributes: dict[str, Any] = {"keepdims": keep}
    inputs = [np.abs(values(shape)) + 0.1]
    if opset >= (13 if op_type == "ReduceSum" else 18):
        attributes["noop_with_empty_axes"] = empty
        inputs += [vector(*axes)] if axes else []
    elif axes:
        attributes["axes"] = axes
    check(Case(op_type, tuple(inputs), attributes, opset, frozenset({1})), seed=seed)


def test_reduction_over_unknown_axes_is_whole() -> None:
    check(Case("ReduceSum", (values((3, 4)), vector(1))), divided=False)


@given(
    op_type=st.sampled_from(("ArgMax", "ArgMin")),
    shape=SHAPES,
    axis=st.integers(0, 3),
    keep=st.integers(0, 1),
    opset=st.sampled_from((7, 11, 13, 21)),
    seed=SEEDS,
)
def test_part_of_argmax_equals_the_whole(
    op_type: str, shape: list[int], axis: int, keep: int, opset: int, seed: int
) -> None:
    check(Case(op_type, (values(shape),), {"axis": min(axis, len(shape) - 1), "keepdims": keep}, opset), seed=seed)


def test_reduction_needs_the_reduced_axes_whole() -> None:
    case = Case("ReduceMean", (values((2, 5, 7)),), {"axes": (1,), "keepdims": 0})
    bound = bound_case(case, run(case))
    rule, produced = rule_for(bound.operator), (Region.of((1, 2), (3, 6)),)
    assert rule.needs(bound, produced) == (Region.of((1, 2), (0, 5), (3, 6)),)
    assert rule.flops(bound, produced) == 15


@given(
    shape=SHAPES,
    axis=st.integers(-4, 3),
    bias=st.booleans(),
    outputs=st.sampled_from(((True,), (True, True), (True, True, True), (True, False, True))),
    opset=st.sampled_from((17, 21)),
    seed=SEEDS,
)
def test_part_of_layer_normalization_equals_the_whole(
    shape: list[int], axis: int, bias: bool, outputs: tuple[bool, ...], opset: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    normalized = shape[axis:]
    parameters = [values(normalized, 1)] + ([values(normalized, 2)] if bias else [])
    check(Case("LayerNormalization", (values(shape), *parameters), {"axis": axis}, opset, outputs=outputs), seed=seed)


def test_layer_normalization_keeps_tokens_apart() -> None:
    case = Case("LayerNormalization", (values((1, 8, 16)), values((16,), 1), values((16,), 2)))
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    produced = rule.produces(bound, (Region.of((0, 1), (2, 5), (3, 4)),))
    assert produced == (Region.of((0, 1), (2, 5), (0, 16)),)
    assert rule.needs(bound, produced) == (produced[0], Region.of((0, 16)), Region.of((0, 16)))


@given(shape=st.lists(st.integers(1, 5), min_size=3, max_size=5), opset=st.sampled_from((7, 17, 21)), seed=SEEDS)
def test_part_of_instance_normalization_equals_the_whole(shape: list[int], opset: int, seed: int) -> None:
    parameters = (values((shape[1],), 1), values((shape[1],), 2))
    check(Case("InstanceNormalization", (values(shape), *parameters), {}, opset), seed=seed)


@given(
    groups=st.integers(1, 4),
    size=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    opset=st.sampled_from((18, 21)),
    seed=SEEDS,
)
def test_part_of_group_normalization_equals_the_whole(
    groups: int, size: int, lengths: list[int], opset: int, seed: int
) -> None:
    count = groups if opset < 21 else groups * size
    inputs = (values((2, groups * size, *lengths)), values((count,), 1), values((count,), 2))
    check(Case("GroupNormalization", inputs, {"num_groups": groups}, opset), seed=seed)


@given(
    kind=st.sampled_from(
        (
            ("LRN", {"size": 3, "alpha": 0.5}),
            ("LRN", {"size": 5, "alpha": 0.1}),
            ("LpNormalization", {"axis": 1, "p": 1}),
            ("LpNormalization", {}),
            ("MeanVarianceNormalization", {}),
            ("MeanVarianceNormalization", {"axes": (2, 3)}),
        )
    ),
    shape=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    seed=SEEDS,
)
def test_part_of_other_normalizations_equals_the_whole(
    kind: tuple[str, dict[str, Any]], shape: list[int], seed: int
) -> None:
    check(Case(kind[0], (values(shape),), kind[1], 17), seed=seed)


@given(shape=SHAPES, axis=st.integers(-4, 3), exclusive=st.integers(0, 1), reverse=st.integers(0, 1), seed=SEEDS)
def test_part_of_cumsum_equals_the_whole(shape: list[int], axis: int, exclusive: int, reverse: int, seed: int) -> None:
    at = np.array(max(-len(shape), min(axis, len(shape) - 1)))
    attributes = {"exclusive": exclusive, "reverse": reverse}
    check(Case("CumSum", (values(shape), at), attributes, 14, frozenset({1})), seed=seed)


@pytest.mark.parametrize("op_type", ["LayerNormalization", "InstanceNormalization"])
def test_normalization_cannot_be_linked(op_type: str) -> None:
    shape = (16,) if op_type == "LayerNormalization" else (8,)
    case = Case(op_type, (values((1, 8, 16)), values(shape, 1), values(shape, 2)))
    bound = bound_case(case, run(case))
    assert not rule_for(bound.operator).links(bound, 0)


@given(shape=SHAPES, axis=st.integers(-4, 3), count=st.integers(1, 3), largest=st.integers(0, 1),
       opset=st.sampled_from((7, 10, 11)), seed=SEEDS)  # fmt: skip
def test_part_of_top_k_equals_the_whole(
    shape: list[int], axis: int, count: int, largest: int, opset: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1)) % len(shape)
    count = min(count, shape[axis])
    if opset < 10:
        case = Case("TopK", (values(shape),), {"axis": axis, "k": count}, opset, outputs=(True, True))
    else:
        attributes: dict[str, Any] = {"axis": axis, "largest": largest} if opset >= 11 else {"axis": axis}
        case = Case("TopK", (values(shape), vector(count)), attributes, opset, frozenset({1}), (True, True))
    check(case, seed=seed)


@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4), upper=st.integers(0, 1), k=st.integers(-7, 7),
       given_k=st.sampled_from(("none", "scalar", "vector", "unknown")), seed=SEEDS)  # fmt: skip
def test_part_of_triangle_equals_the_whole(shape: list[int], upper: int, k: int, given_k: str, seed: int) -> None:
    diagonal = {"none": [], "vector": [vector(k)]}.get(given_k, [np.array(k, np.int64)])
    case = Case("Trilu", (values(shape), *diagonal), {"upper": upper}, 14,
                frozenset({1} if given_k != "unknown" else ()))  # fmt: skip
    check(case, seed=seed, divided=given_k != "unknown")


@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=4), time=st.integers(0, 1), seed=SEEDS)
def test_part_of_reversed_sequences_equals_the_whole(shape: list[int], time: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, shape[time] + 1, shape[1 - time]).astype(np.int64)
    attributes: dict[str, Any] = {"time_axis": time, "batch_axis": 1 - time}
    check(Case("ReverseSequence", (values(shape), lengths), attributes, 10), seed=seed)


@pytest.mark.recent_onnxruntime
@given(shape=SHAPES, axis=st.integers(-4, 3), exclusive=st.integers(0, 1), reverse=st.integers(0, 1), seed=SEEDS)
def test_part_of_running_product_equals_the_whole(
    shape: list[int], axis: int, exclusive: int, reverse: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    attributes: dict[str, Any] = {"exclusive": exclusive, "reverse": reverse}
    check(Case("CumProd", (values(shape), np.array(axis, np.int64)), attributes, 26, frozenset({1})), seed=seed)


@given(shape=SHAPES, axis=st.integers(-4, 3), seed=SEEDS)
def test_part_of_root_mean_square_equals_the_whole(shape: list[int], axis: int, seed: int) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    check(Case("RMSNormalization", (values(shape), values(shape[axis:], 1)), {"axis": axis}, 23), seed=seed)
