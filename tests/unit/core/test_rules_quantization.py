"""Rules of quantised operators, against onnxruntime: integers are equal bit by bit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from flexpie.core.rules.registry import MICROSOFT
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values

SEEDS = st.integers(0, 9999)
INTEGERS = st.sampled_from(("uint8", "int8"))


def integers(shape: tuple[int, ...] | list[int], kind: str, seed: int = 0) -> Array:
    """Random values over the whole range of a type."""
    limits = np.iinfo(kind)
    return np.asarray(np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape)).astype(kind)


@cache
def saturates() -> bool:
    """Whether onnxruntime's product of uint8 and int8 overflows 16 bits here, as it does on x86 without VNNI.

    There, what a sum of two products is cut to depends on the kernel that runs, and that on the size of the part.
    """
    product = Case("MatMulInteger", (np.full((16, 64), 255, np.uint8), np.full((64, 16), 127, np.int8)), {}, 10)
    result = run(product)[0]
    return result is None or bool(np.any(result != 64 * 255 * 127))


def weights(shape: tuple[int, ...] | list[int], kind: str, seed: int = 1) -> Array:
    """Random weights; where products saturate, of 7 bits, as onnxruntime advises (`reduce_range`)."""
    whole = integers(shape, kind, seed)
    return whole // 2 if kind == "int8" and saturates() else whole


def scales(shape: tuple[int, ...], seed: int = 0, size: float = 0.05) -> Array:
    """Random positive scales."""
    return np.asarray(size * (0.5 + np.random.default_rng(seed).random(shape)), np.float32)


def zero_points(shape: tuple[int, ...], kind: str, seed: int = 0) -> Array:
    """Random zero points."""
    return np.asarray(np.random.default_rng(seed).integers(0, 60, shape)).astype(kind)


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), axis=st.integers(-4, 3), kind=INTEGERS,
    per=st.sampled_from(("tensor", "one", "axis")), with_zero=st.booleans(), forward=st.booleans(),
    opset=st.sampled_from((10, 13, 19, 21)), seed=SEEDS,
)  # fmt: skip
def test_part_of_quantization_equals_the_whole(
    shape: list[int], axis: int, kind: str, per: str, with_zero: bool, forward: bool, opset: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    if opset < 13:
        per = "tensor"
    along = {"tensor": (), "one": (1,), "axis": (shape[axis],)}[per]
    parameters = (scales(along), zero_points(along, kind) if with_zero else None)
    kind = kind if with_zero or not forward else "uint8"
    x = values(shape) if forward else integers(shape, kind)
    attributes: dict[str, Any] = {"axis": axis} if opset >= 13 else {}
    op_type = "QuantizeLinear" if forward else "DequantizeLinear"
    bound = check(Case(op_type, (x, *parameters), attributes, opset), seed=seed)
    assert rule_for(bound.operator).links(bound, 0)


def test_quantization_in_blocks_is_whole() -> None:
    inputs = (values((4, 6)), scales((2, 6)), zero_points((2, 6), "uint8"))
    check(Case("QuantizeLinear", inputs, {"axis": 0, "block_size": 2}, 21), divided=False)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[dict[str, Any], list[int], list[int]]:
    """Attributes, and shapes of X and filters."""
    rank = draw(st.integers(1, 2))
    groups, inner, outer = draw(st.sampled_from((1, 1, 2, 6))), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    size = [draw(st.integers(3, 9)) for _ in range(rank)]
    attributes: dict[str, Any] = {
        "group": groups,
        "kernel_shape": tuple(kernel),
        "strides": tuple(draw(st.integers(1, 2)) for _ in range(rank)),
        "pads": tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)),
    }
    return attributes, [draw(st.integers(1, 2)), groups * inner, *size], [groups * outer, inner, *kernel]


@given(geometry=convolutions(), x_kind=INTEGERS, w_kind=INTEGERS, per_channel=st.booleans(), bias=st.booleans(),
       opset=st.sampled_from((10, 13, 21)), seed=SEEDS)  # fmt: skip
def test_part_of_quantized_convolution_equals_the_whole(
    geometry: tuple[dict[str, Any], list[int], list[int]],
    x_kind: str, w_kind: str, per_channel: bool, bias: bool, opset: int, seed: int,
) -> None:  # fmt: skip
    attributes, x_shape, w_shape = geometry
    along = (w_shape[0],) if per_channel else ()
    w_zero = np.zeros(along, w_kind) if w_kind == "int8" else np.full(along, 7, w_kind)
    inputs: list[Array | None] = [
        integers(x_shape, x_kind), scales(()), zero_points((), x_kind),
        weights(w_shape, w_kind), scales(along, 1), w_zero,
        scales((), 2, 1.0), zero_points((), x_kind, 2),
    ]  # fmt: skip
    if bias:
        inputs.append(values((w_shape[0],), 3, "int32") * 1000)
    check(Case("QLinearConv", tuple(inputs), attributes, opset), seed=seed)


@given(geometry=convolutions(), w_kind=INTEGERS, zeros=st.integers(0, 2), seed=SEEDS)
def test_part_of_integer_convolution_equals_the_whole(
    geometry: tuple[dict[str, Any], list[int], list[int]], w_kind: str, zeros: int, seed: int
) -> None:
    attributes, x_shape, w_shape = geometry
    inputs = (integers(x_shape, "uint8"), weights(w_shape, w_kind))
    points = (zero_points((), "uint8"), np.zeros((), w_kind))
    check(Case("ConvInteger", (*inputs, *points[:zeros]), attributes, 10), seed=seed)


@st.composite
def factors(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Shapes of two factors."""
    rows, inner, columns = (draw(st.integers(1, 7)) for _ in range(3))
    batches = draw(st.lists(st.integers(1, 3), max_size=2))
    first, second = batches[draw(st.integers(0, len(batches))) :], batches[draw(st.integers(0, len(batches))) :]
    return [*first, rows, inner], [*second, inner, columns]


@given(
    shapes=factors(), a_kind=INTEGERS, b_kind=INTEGERS, per_column=st.booleans(), zeros=st.integers(0, 2), seed=SEEDS
)
def test_part_of_integer_product_equals_the_whole(
    shapes: tuple[list[int], list[int]], a_kind: str, b_kind: str, per_column: bool, zeros: int, seed: int
) -> None:
    a, b = shapes
    points = (zero_points((), a_kind), zero_points((b[-1],) if per_column else (), b_kind, 1))
    inputs = (integers(a, a_kind), weights(b, b_kind), *points[:zeros])
    check(Case("MatMulInteger", inputs, {}, 10), seed=seed)


@given(shapes=factors(), a_kind=INTEGERS, b_kind=INTEGERS, per_column=st.booleans(), seed=SEEDS)
def test_part_of_quantized_product_equals_the_whole(
    shapes: tuple[list[int], list[int]], a_kind: str, b_kind: str, per_column: bool, seed: int
) -> None:
    a, b = shapes
    along = (b[-1],) if per_column else ()
    inputs = (
        integers(a, a_kind), scales(()), zero_points((), a_kind),
        weights(b, b_kind), scales(along, 1), np.zeros(along, b_kind),
        scales((), 2, 1.0), zero_points((), a_kind, 2),
    )  # fmt: skip
    check(Case("QLinearMatMul", inputs, {}, 10), seed=seed)


def test_parameters_follow_rows_and_columns() -> None:
    inputs = (
        integers((2, 6, 8), "uint8"), scales((6,)), zero_points((6,), "uint8"),
        integers((8, 5), "uint8"), scales((5,)), zero_points((5,), "uint8"), scales(()), zero_points((), "uint8"),
    )  # fmt: skip
    case = Case("QLinearMatMul", inputs, {}, 10)
    bound = bound_case(case, [np.zeros((2, 6, 5), np.uint8)])  # onnxruntime has no kernel for rows
    needed = rule_for(bound.operator).needs(bound, (Region.of((1, 2), (2, 4), (0, 3)),))
    assert needed[:3] == (Region.of((1, 2), (2, 4), (0, 8)), Region.of((2, 4)), Region.of((2, 4)))
    assert needed[3:6] == (Region.of((0, 8), (0, 3)), Region.of((0, 3)), Region.of((0, 3)))


@st.composite
def broadcast_pair(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    output = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    tail = output[draw(st.integers(0, len(output))) :]
    other = [1 if draw(st.booleans()) and draw(st.booleans()) else length for length in tail]
    return (output, other) if draw(st.booleans()) else (other, output)


@given(op_type=st.sampled_from(("QLinearAdd", "QLinearMul")), shapes=broadcast_pair(), kind=INTEGERS, seed=SEEDS)
def test_part_of_quantized_sum_equals_the_whole(
    op_type: str, shapes: tuple[list[int], list[int]], kind: str, seed: int
) -> None:
    inputs: list[Array] = []
    for index, shape in enumerate(shapes):
        inputs += [integers(shape, kind, index), scales((), index), zero_points((), kind, index)]
    inputs += [scales((), 3, 0.1), zero_points((), kind, 3)]
    bound = check(Case(op_type, tuple(inputs), domain=MICROSOFT), seed=seed)
    assert rule_for(bound.operator).links(bound, 0) == (tuple(shapes[0]) == bound.output().shape)
    assert not rule_for(bound.operator).links(bound, 1)


@given(shapes=broadcast_pair(), kind=INTEGERS, seed=SEEDS)
def test_part_of_quantized_choice_equals_the_whole(shapes: tuple[list[int], list[int]], kind: str, seed: int) -> None:
    first, second = shapes
    inputs = (
        values(second, 4, "bool"),
        integers(first, kind), scales(()), zero_points((), kind),
        integers(second, kind, 1), scales((), 1), zero_points((), kind, 1),
        scales((), 2), zero_points((), kind, 2),
    )  # fmt: skip
    check(Case("QLinearWhere", inputs, domain=MICROSOFT), seed=seed)


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4), axis=st.integers(-3, 2), kind=INTEGERS, seed=SEEDS)
def test_part_of_quantized_concatenation_equals_the_whole(lengths: list[int], axis: int, kind: str, seed: int) -> None:
    inputs: list[Array] = [scales((), 9), zero_points((), kind, 9)]
    for index, length in enumerate(lengths):
        shape = [2, 3, 4]
        shape[axis] = length
        inputs += [integers(shape, kind, index), scales((), index), zero_points((), kind, index)]
    check(Case("QLinearConcat", tuple(inputs), {"axis": axis}, domain=MICROSOFT), seed=seed)


@given(op_type=st.sampled_from(("QLinearSigmoid", "QLinearLeakyRelu")), kind=INTEGERS,
       shape=st.lists(st.integers(1, 9), max_size=4), seed=SEEDS)  # fmt: skip
def test_part_of_quantized_activation_equals_the_whole(op_type: str, kind: str, shape: list[int], seed: int) -> None:
    inputs = (integers(shape, kind), scales(()), zero_points((), kind), scales((), 1), zero_points((), kind, 1))
    check(Case(op_type, inputs, domain=MICROSOFT), seed=seed)


@given(kind=INTEGERS, size=st.tuples(*[st.integers(3, 8)] * 2), stride=st.integers(1, 2), pads=st.booleans(),
       ceil=st.booleans(), counted=st.booleans(), seed=SEEDS)  # fmt: skip
def test_part_of_quantized_pool_equals_the_whole(
    kind: str, size: tuple[int, int], stride: int, pads: bool, ceil: bool, counted: bool, seed: int
) -> None:
    parameters = (scales(()), zero_points((), kind), scales((), 1), zero_points((), kind, 1))
    attributes: dict[str, Any] = {
        "kernel_shape": (3, 2), "strides": (stride, stride), "pads": (1, 0, 1, 1) if pads else (0, 0, 0, 0),
        "ceil_mode": int(ceil), "count_include_pad": int(counted),
    }  # fmt: skip
    inputs = (integers((1, 4, *size), kind), *parameters)
    check(Case("QLinearAveragePool", inputs, attributes, domain=MICROSOFT), seed=seed, divided=None)
    check(Case("QLinearGlobalAveragePool", inputs, {}, domain=MICROSOFT), seed=seed)
    last = Case("QLinearGlobalAveragePool", inputs, {"channels_last": 1}, domain=MICROSOFT)
    check(last, seed=seed, divided=False)


@given(kind=INTEGERS, axis=st.integers(-3, 2), opset=st.sampled_from((11, 13)), seed=SEEDS)
def test_part_of_quantized_softmax_equals_the_whole(kind: str, axis: int, opset: int, seed: int) -> None:
    zero = np.zeros((), kind) if kind == "uint8" else np.full((), -128, kind)
    inputs = (integers((3, 4, 5), kind), scales(()), zero_points((), kind), np.full((), 1 / 256, np.float32), zero)
    check(Case("QLinearSoftmax", inputs, {"axis": axis, "opset": opset}, domain=MICROSOFT), seed=seed)


@given(flip=st.tuples(st.booleans(), st.booleans()), per_column=st.booleans(), c=st.booleans(), real=st.booleans(),
       kind=INTEGERS, seed=SEEDS)  # fmt: skip
def test_part_of_quantized_gemm_equals_the_whole(
    flip: tuple[bool, bool], per_column: bool, c: bool, real: bool, kind: str, seed: int
) -> None:
    a, b = ((7, 5) if flip[0] else (5, 7)), ((6, 7) if flip[1] else (7, 6))
    along = (6,) if per_column else ()
    inputs: list[Array | None] = [
        integers(a, kind), scales(()), zero_points((), kind),
        weights(b, kind), scales(along, 1), np.zeros(along, kind),
        values((6,), 2, "int32") if c else None,
    ]  # fmt: skip
    if not real:
        inputs += [scales((), 3, 1.0), zero_points((), kind, 3)]
    attributes: dict[str, Any] = {"transA": int(flip[0]), "transB": int(flip[1]), "alpha": 1.0}
    check(Case("QGemm", tuple(inputs), attributes, domain=MICROSOFT), seed=seed)


@pytest.mark.parametrize("op_type", ["BiasGelu", "FastGelu", "Gelu", "QuickGelu"])
def test_part_of_further_activations_equals_the_whole(op_type: str) -> None:
    bias = (values((5,), 1),) if op_type in {"BiasGelu", "FastGelu"} else ()
    for seed in range(4):
        check(Case(op_type, (values((3, 4, 5)), *bias), domain=MICROSOFT), seed=seed)


@pytest.mark.parametrize("groups", [1, 4, 64])
@pytest.mark.parametrize(("x_kind", "w_kind"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
def test_kernels_for_wide_layers_are_exact_as_well(groups: int, x_kind: str, w_kind: str) -> None:
    inputs = (
        integers((1, 64, 15, 17), x_kind), scales(()), zero_points((), x_kind),
        weights((64, 64 // groups, 3, 3), w_kind), scales((64,), 1), np.zeros((64,), w_kind),
        scales((), 2, 1.0), zero_points((), x_kind, 2),
    )  # fmt: skip
    attributes: dict[str, Any] = {"group": groups, "pads": (1, 1, 1, 1)}
    for wanted in (Region.of((0, 1), (0, 64), (4, 9), (0, 17)), Region.of((0, 1), (7, 8), (0, 15), (0, 17)),
                   Region.of((0, 1), (16, 48), (0, 1), (3, 5))):  # fmt: skip
        check(Case("QLinearConv", inputs, attributes, 13), (wanted,))
    product = (integers((1, 70, 96), x_kind), weights((96, 80), w_kind))
    for wanted in (Region.of((0, 1), (3, 4), (0, 80)), Region.of((0, 1), (5, 40), (17, 33))):
        check(Case("MatMulInteger", product, {}, 10), (wanted,))
