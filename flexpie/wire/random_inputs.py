"""Random inputs of a model, to compare one way of running it with another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flexpie.core.graph import LayerGraph
from flexpie.core.tensor import ElementType, TensorSpec


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
