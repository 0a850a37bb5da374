"""Rules of operators that read one place per output element, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.graph import AttributeValue
from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values

SHAPES = st.lists(st.integers(1, 6), max_size=4).map(tuple)
SEEDS = st.integers(0, 9999)

FLOAT_UNARY: dict[str, dict[str, AttributeValue]] = {
    "Abs": {}, "Acos": {}, "Acosh": {}, "Asin": {}, "Asinh": {}, "Atan": {}, "Atanh": {}, "Ceil": {},
    "Celu": {"alpha": 0.5}, "Cos": {}, "Cosh": {}, "Elu": {"alpha": 0.7}, "Erf": {}, "Exp": {}, "Floor": {},
    "HardSigmoid": {"alpha": 0.3}, "HardSwish": {}, "Identity": {}, "IsInf": {}, "IsNaN": {},
    "LeakyRelu": {"alpha": 0.1}, "Log": {}, "Neg": {}, "Reciprocal": {}, "Relu": {}, "Round": {}, "Selu": {},
    "Shrink": {"lambd": 0.5}, "Sigmoid": {}, "Sign": {}, "Sin": {}, "Sinh": {}, "Softplus": {},
    "Softsign": {}, "Sqrt": {}, "Tan": {}, "Tanh": {}, "ThresholdedRelu": {"alpha": 0.5}, "Mish": {},
    "Gelu": {"approximate": "tanh"}, "Cast": {"to": 7}, "Swish": {"alpha": 0.5}, "BitCast": {"to": 6},
}  # fmt: skip
FLOAT_BROADCAST = ["Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Pow", "Sub"]
VARIADIC = ["Max", "Mean", "Min", "Sum"]


@pytest.mark.parametrize(
    "op_type",
    [
        pytest.param(op_type, marks=[pytest.mark.recent_onnxruntime] if op_type in {"Swish", "BitCast"} else [])
        for op_type in FLOAT_UNARY
    ],
)
def test_part_of_unary_equals_the_whole(op_type: str) -> None:
    for seed in range(6):
        shape = ((4, 5, 6), (1, 3, 2, 5), (7,), ())[seed % 4]
        opset = 21 if op_type in {"Gelu", "HardSwish", "Mish"} or seed % 2 else 13
        opset = {"Swish": 24, "BitCast": 26}.get(op_type, opset)
        bound = check(Case(op_type, (values(shape, seed),), FLOAT_UNARY[op_type], opset), seed=seed)
        assert rule_for(bound.operator).links(bound, 0)


@given(shape=SHAPES, limits=st.integers(0, 3), seed=SEEDS)
def test_clip_keeps_its_limits(shape: tuple[int, ...], limits: int, seed: int) -> None:
    low = np.array(-0.5, np.float32) if limits & 1 else None
    high = np.array(1.0, np.float32) if limits & 2 else None
    bound = check(Case("Clip", (values(shape), low, high), {}, 13), seed=seed)
    rule = rule_for(bound.operator)
    assert rule.links(bound, 0)
    assert not rule.links(bound, 1) or shape == ()


def test_clip_with_limits_as_attributes() -> None:
    check(Case("Clip", (values((3, 4)),), {"min": 0.0, "max": 1.0}, 10), (Region.of((1, 3), (0, 2)),))


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
def test_dropout_in_inference_is_linkable(opset: int) -> None:
    ratio = () if opset < 12 else (np.array(0.3, dtype=np.float32),)
    bound = check(Case("Dropout", (values((4, 5)), *ratio), {}, opset), seed=3)
    assert rule_for(bound.operator).links(bound, 0)
    region = Region.of((1, 2), (0, 3))
    for wanted in ((region, None), (None, region), (region, Region.of((2, 3), (1, 4)))):
        check(Case("Dropout", (values((4, 5)), *ratio), {}, opset, outputs=(True, True)), wanted)


def test_dropout_that_may_train_is_whole() -> None:
    inputs = (values((4, 5)), np.array(0.0, dtype=np.float32), np.array(False))
    wanted = (Region.of((1, 2), (0, 3)),)
    for known, produced in ((frozenset[int](), Region.of((0, 4), (0, 5))), (frozenset({2}), wanted[0])):
        case = Case("Dropout", inputs, {}, 13, known)
        bound = bound_case(case, run(case))
        assert rule_for(bound.operator).produces(bound, wanted) == (produced,)


@st.composite
def broadcast_shapes(draw: st.DrawFn, count: int) -> list[tuple[int, ...]]:
    output = draw(SHAPES)
    shapes = []
    for _ in range(count):
        tail = output[draw(st.integers(0, len(output))) :]
        shapes.append(tuple(1 if draw(st.booleans()) and draw(st.booleans()) else length for length in tail))
    return shapes


@given(
    op_type=st.sampled_from(FLOAT_BROADCAST),
    shapes=broadcast_shapes(2),
    opset=st.sampled_from((13, 17, 21)),
    seed=SEEDS,
)
def test_part_of_binary_equals_the_whole(op_type: str, shapes: list[tuple[int, ...]], opset: int, seed: int) -> None:
    arrays = tuple(np.abs(values(shape, index)) + 0.5 for index, shape in enumerate(shapes))
    opset = max(opset, 16) if op_type.endswith("OrEqual") else opset
    bound = check(Case(op_type, arrays, {}, opset), seed=seed)
    for index, shape in enumerate(shapes):
        assert rule_for(bound.operator).links(bound, index) == (shape == bound.output().shape)


@given(op_type=st.sampled_from(VARIADIC), shapes=broadcast_shapes(3), count=st.integers(1, 3), seed=SEEDS)
def test_part_of_variadic_equals_the_whole(op_type: str, shapes: list[tuple[int, ...]], count: int, seed: int) -> None:
    arrays = tuple(values(shape, index) for index, shape in enumerate(shapes[:count]))
    check(Case(op_type, arrays, {}, 13), seed=seed)


@given(op_type=st.sampled_from(["And", "Or", "Xor"]), shapes=broadcast_shapes(2), seed=SEEDS)
def test_part_of_logic_equals_the_whole(op_type: str, shapes: list[tuple[int, ...]], seed: int) -> None:
    arrays = tuple(values(shape, index, "bool") for index, shape in enumerate(shapes))
    check(Case(op_type, arrays, {}, 13), seed=seed)


@given(
    op_type=st.sampled_from(["Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]),
    shapes=broadcast_shapes(2),
    seed=SEEDS,
)
def test_part_of_integer_operators_equals_the_whole(op_type: str, shapes: list[tuple[int, ...]], seed: int) -> None:
    arrays: tuple[Array, ...] = tuple(values(shape, i, "uint32") + 1 for i, shape in enumerate(shapes))
    attributes: dict[str, Any] = {"direction": "LEFT"} if op_type == "BitShift" else {}
    check(Case(op_type, tuple(array.astype("uint32") for array in arrays), attributes, 18), seed=seed)


@given(shapes=broadcast_shapes(3), seed=SEEDS)
def test_part_of_where_equals_the_whole(shapes: list[tuple[int, ...]], seed: int) -> None:
    check(Case("Where", (values(shapes[0], 0, "bool"), values(shapes[1], 1), values(shapes[2], 2))), seed=seed)


@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4), seed=SEEDS, data=st.data())
def test_part_of_prelu_equals_the_whole(shape: list[int], seed: int, data: st.DataObject) -> None:
    slope = [length if data.draw(st.booleans()) else 1 for length in shape][data.draw(st.integers(0, 1)) :]
    check(Case("PRelu", (values(shape), values(slope, 1))), seed=seed)


@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4), opset=st.sampled_from((7, 9, 14, 15, 21)), seed=SEEDS)
def test_part_of_batch_normalization_equals_the_whole(shape: list[int], opset: int, seed: int) -> None:
    statistics = [np.abs(values((shape[1],), index)) + 0.1 for index in range(4)]
    case = Case("BatchNormalization", (values(shape), *statistics), {"epsilon": 0.01}, opset)
    bound = check(case, seed=seed)
    rule = rule_for(bound.operator)
    assert [rule.links(bound, index) for index in range(5)] == [True, False, False, False, False]


def test_batch_normalization_takes_the_statistics_of_its_channels() -> None:
    case = Case("BatchNormalization", (values((1, 8, 5, 5)), *[np.ones(8, np.float32)] * 4))
    bound = bound_case(case, run(case))
    region = Region.of((0, 1), (2, 5), (1, 3), (0, 5))
    assert rule_for(bound.operator).needs(bound, (region,)) == (region, *[Region.of((2, 5))] * 4)


def test_broadcast_input_is_needed_once() -> None:
    case = Case("Add", (values((1, 4, 6, 6)), values((4, 1, 1), 1)))
    bound = bound_case(case, run(case))
    region = Region.of((0, 1), (1, 3), (2, 6), (0, 6))
    assert rule_for(bound.operator).needs(bound, (region,)) == (region, Region.of((1, 3), (0, 1), (0, 1)))


@pytest.mark.parametrize("op_type", ["Relu", "Add"])
def test_tensors_without_elements_are_whole(op_type: str) -> None:
    inputs = (values((0, 3)),) * (1 if op_type == "Relu" else 2)
    bound = check(Case(op_type, inputs), divided=False)
    whole = Region.of((0, 0), (0, 3))
    assert rule_for(bound.operator).needs(bound, (whole,)) == (whole,) * len(inputs)
