"""Split against unsplit: random inputs, and how far outputs may differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flexpie.core.graph import LayerGraph
from flexpie.core.tensor import ElementType, TensorSpec

Arrays = Mapping[str, npt.NDArray[Any]]

ABSOLUTE_TOLERANCE = {"float16": 1e-2, "bfloat16": 1e-1}
"""Largest absolute difference by element type; float32 and float64 have `FLOAT_TOLERANCE`, all others none."""
FLOAT_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-5
"""Largest difference relative to the largest output, where that allows more."""


@dataclass(frozen=True)
class Comparison:
    """How far two sets of outputs are apart."""

    max_abs_error: float
    max_rel_error: float
    """Relative to the largest absolute output."""
    equal: bool
    """Whether every output is within its tolerance."""


def compare(expected: Arrays, actual: Arrays) -> Comparison:
    """Compare outputs by name. Integers, booleans and strings must be the same; NaN equals NaN."""
    results = [_compare_one(expected[name], actual[name]) for name in expected]
    return Comparison(
        max((result.max_abs_error for result in results), default=0.0),
        max((result.max_rel_error for result in results), default=0.0),
        all(result.equal for result in results),
    )


def _compare_one(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> Comparison:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return Comparison(float("inf"), float("inf"), False)
    if expected.size == 0:
        return Comparison(0.0, 0.0, True)
    if expected.dtype.kind not in "fV" and expected.dtype.name not in ABSOLUTE_TOLERANCE:
        same = bool(np.array_equal(expected, actual))
        return Comparison(0.0 if same else float("inf"), 0.0 if same else float("inf"), same)
    wide, other = expected.astype(np.float64), actual.astype(np.float64)
    agree = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.where(agree, 0.0, np.abs(wide - other))
    difference = np.where(np.isnan(difference), np.inf, difference)
    finite = np.abs(wide[np.isfinite(wide)])
    largest = float(finite.max()) if finite.size else 0.0
    error = float(difference.max())
    tolerance = ABSOLUTE_TOLERANCE.get(expected.dtype.name, FLOAT_TOLERANCE)
    relative = error / largest if largest else (0.0 if error == 0.0 else float("inf"))
    return Comparison(error, relative, error <= max(tolerance, RELATIVE_TOLERANCE * largest))


def random_inputs(graph: LayerGraph, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Seeded inputs: normal floats, booleans, and integers small enough to index what the model looks them up in."""
    generator = np.random.default_rng(seed)
    return {name: _random(graph, graph.tensors[name], generator) for name in graph.inputs}


def _random(graph: LayerGraph, spec: TensorSpec, generator: np.random.Generator) -> npt.NDArray[Any]:
    if spec.dtype is ElementType.STRING:
        return np.full(spec.shape, b"text", dtype=object)
    if spec.dtype is ElementType.BOOL:
        return generator.integers(0, 2, spec.shape).astype(np.bool_)
    if spec.dtype in {ElementType.FLOAT32, ElementType.FLOAT64, ElementType.FLOAT16, ElementType.BFLOAT16}:
        return generator.standard_normal(spec.shape).astype(_numpy_type(spec.dtype))
    return generator.integers(0, _index_limit(graph, spec.name), spec.shape).astype(spec.dtype.value)


def _numpy_type(kind: ElementType) -> Any:
    if kind is ElementType.BFLOAT16:
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(kind.value)


def _index_limit(graph: LayerGraph, tensor: str) -> int:
    """Integers below this are valid wherever the tensor is used as indices; 2 where nothing tells more."""
    limits = []
    for operator in graph.operators():
        if operator.op_type == "Gather" and len(operator.inputs) > 1 and operator.inputs[1] == tensor:
            axis = operator.attributes.get("axis", 0)
            assert isinstance(axis, int)
            limits.append(graph.tensors[operator.inputs[0]].shape[axis])
    return max(1, min(limits, default=2))
