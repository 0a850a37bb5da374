"""Rules do not look at element types: parts of half and double precision, and of integers, are right as well."""

from __future__ import annotations

from typing import Any

import pytest

from flexpie.core.graph import AttributeValue
from tests.unit.core.rule_checks import Array, Case, check, values

Shapes = tuple[tuple[int, ...], ...]

FLOATS: dict[str, tuple[Shapes, dict[str, AttributeValue]]] = {
    "Conv": (((1, 4, 9, 8), (6, 2, 3, 3), (6,)), {"group": 2, "pads": (1, 1, 1, 1), "strides": (2, 1)}),
    "MatMul": (((2, 5, 8), (8, 6)), {}),
    "Gemm": (((5, 8), (6, 8), (6,)), {"transB": 1}),
    "Add": (((2, 5, 8), (5, 1)), {}),
    "Relu": (((3, 4, 5),), {}),
    "Sigmoid": (((3, 4, 5),), {}),
    "Softmax": (((3, 4, 5),), {}),
    "ReduceMean": (((3, 4, 5),), {"axes": (1,)}),
    "LayerNormalization": (((3, 4, 5), (5,), (5,)), {}),
    "MaxPool": (((1, 3, 9, 8),), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}),
    "GlobalAveragePool": (((1, 3, 9, 8),), {}),
    "Concat": (((2, 3, 4), (2, 2, 4)), {"axis": 1}),
    "Transpose": (((2, 3, 4),), {"perm": (2, 0, 1)}),
    "DepthToSpace": (((1, 8, 3, 2),), {"blocksize": 2, "mode": "CRD"}),
    "Einsum": (((2, 3, 4), (2, 4, 5)), {"equation": "bij,bjk->bik"}),
    "ConvTranspose": (((1, 4, 5, 4), (4, 3, 3, 3)), {"strides": (2, 2)}),
}
WITHOUT_KERNEL = {
    ("Conv", "float64"), ("ConvTranspose", "float16"), ("ConvTranspose", "float64"), ("GlobalAveragePool", "float64"),
}  # fmt: skip
"""What onnxruntime does not run on a CPU."""

INTEGERS: dict[str, tuple[Shapes, dict[str, AttributeValue]]] = {
    "MatMul": (((2, 5, 8), (8, 6)), {}),
    "Add": (((2, 5, 8), (5, 1)), {}),
    "Concat": (((2, 3, 4), (2, 2, 4)), {"axis": 1}),
    "Transpose": (((2, 3, 4),), {"perm": (2, 0, 1)}),
    "ReduceSum": (((3, 4, 5),), {}),
    "ArgMax": (((3, 4, 5),), {"axis": 1}),
}


def case_of(op_type: str, shapes: Shapes, attributes: dict[str, AttributeValue], kind: str) -> Case:
    arrays: list[Array] = [values(shape, index, kind) for index, shape in enumerate(shapes)]
    return Case(op_type, tuple(arrays), attributes)


@pytest.mark.parametrize("kind", ["float16", "float64"])
@pytest.mark.parametrize("op_type", FLOATS)
def test_part_of_other_precision_equals_the_whole(op_type: str, kind: str) -> None:
    if (op_type, kind) in WITHOUT_KERNEL:
        pytest.skip("onnxruntime has no kernel")
    for seed in range(4):
        check(case_of(op_type, *FLOATS[op_type], kind), seed=seed)


@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("op_type", INTEGERS)
def test_part_of_integers_equals_the_whole(op_type: str, kind: str) -> None:
    for seed in range(4):
        check(case_of(op_type, *INTEGERS[op_type], kind), seed=seed)


def test_parts_of_text_are_copied() -> None:
    text: Any = values((3, 4), 0, "int64").astype(str).astype(object)
    check(Case("Transpose", (text,), {"perm": (1, 0)}), seed=1)
