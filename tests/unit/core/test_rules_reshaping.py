"""Rules of operators that keep the elements' order, and of Transpose, against onnxruntime."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.graph import AttributeValue
from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Case, bound_case, check, run, values, vector

SEEDS = st.integers(0, 9999)
OPSETS = st.sampled_from((7, 11, 13, 17, 21))


@st.composite
def same_size_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes with the same number of elements: one list of factors, grouped twice, at times shuffled."""
    factors = draw(st.lists(st.sampled_from((1, 2, 2, 3, 4, 5)), max_size=6))

    def group(numbers: list[int]) -> tuple[int, ...]:
        shape: list[int] = []
        for number in numbers:
            if draw(st.booleans()) and shape:
                shape[-1] *= number
            else:
                shape.append(number)
        return tuple(shape)

    second = draw(st.permutations(factors)) if draw(st.booleans()) else factors
    return group(factors), group(list(second))


@given(shapes=same_size_shapes(), opset=OPSETS, known=st.booleans(), seed=SEEDS)
def test_part_of_reshape_equals_the_whole(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], opset: int, known: bool, seed: int
) -> None:
    source, target = shapes
    case = Case("Reshape", (values(source), vector(*target)), {}, opset, frozenset({1} if known else ()))
    check(case, seed=seed)


@pytest.mark.parametrize("target", [(0, -1), (0, 0, -1), (-1, 4)])
def test_reshape_with_placeholders(target: tuple[int, ...]) -> None:
    for seed in range(10):
        check(Case("Reshape", (values((2, 4, 3, 5)), vector(*target)), {}, 13, frozenset({1})), seed=seed)


@pytest.mark.parametrize(
    ("source", "target", "wanted", "produced", "needed"),
    [
        # Attention: features become heads × features of a head.
        ((1, 8, 12), (1, 8, 3, 4), "0:1 2:5 1:2 0:4", "0:1 2:5 1:2 0:4", "0:1 2:5 4:8"),
        # Half a head is not a box of the features beside another head.
        ((1, 8, 12), (1, 8, 3, 4), "0:1 2:5 1:3 0:2", "0:1 2:5 1:3 0:4", "0:1 2:5 4:12"),
        ((1, 8, 12), (1, 8, 3, 4), "0:1 2:5 1:2 1:3", "0:1 2:5 1:2 1:3", "0:1 2:5 5:7"),
        # Flattened image: one channel's rows are contiguous, several channels' are not.
        ((1, 6, 4, 4), (1, 96), "0:1 20:23", "0:1 20:23", "0:1 1:2 1:2 0:3"),
        ((1, 6, 4, 4), (1, 96), "0:1 20:26", "0:1 20:28", "0:1 1:2 1:3 0:4"),
        ((1, 6, 4, 4), (1, 96), "0:1 20:40", "0:1 16:48", "0:1 1:3 0:4 0:4"),
        # No common factors: whole, but for the axis outside.
        ((3, 4, 6), (3, 6, 4), "1:2 0:1 0:1", "1:2 0:6 0:4", "1:2 0:4 0:6"),
    ],
)  # fmt: skip
def test_regions_of_reshape(
    source: tuple[int, ...], target: tuple[int, ...], wanted: str, produced: str, needed: str
) -> None:
    def region(text: str) -> Region:
        return Region.of(*(tuple(map(int, part.split(":"))) for part in text.split()))  # type: ignore[arg-type]

    case = Case("Reshape", (values(source), vector(*target)), {}, 13, frozenset({1}))
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    assert rule.produces(bound, (region(wanted),)) == (region(produced),)
    assert rule.needs(bound, (region(produced),)) == (region(needed), None)
    check(case, (region(wanted),))


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=5), axis=st.integers(0, 5), opset=OPSETS, seed=SEEDS)
def test_part_of_flatten_equals_the_whole(shape: list[int], axis: int, opset: int, seed: int) -> None:
    check(Case("Flatten", (values(shape),), {"axis": min(axis, len(shape))}, opset), seed=seed)


@st.composite
def shapes_with_ones(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and which of its axes have length 1 and are picked."""
    shape = draw(st.lists(st.sampled_from((1, 1, 2, 5)), min_size=1, max_size=5))
    axes = [axis for axis, length in enumerate(shape) if length == 1 and draw(st.booleans())]
    return tuple(shape), tuple(axes)


@given(case=shapes_with_ones(), opset=OPSETS, implicit=st.booleans(), known=st.booleans(), seed=SEEDS)
def test_part_of_squeeze_equals_the_whole(
    case: tuple[tuple[int, ...], tuple[int, ...]], opset: int, implicit: bool, known: bool, seed: int
) -> None:
    shape, axes = case
    if implicit or not axes:
        check(Case("Squeeze", (values(shape),), {}, opset), seed=seed, divided=1 in shape)
    elif opset < 13:
        check(Case("Squeeze", (values(shape),), {"axes": axes}, opset), seed=seed)
    else:
        check(Case("Squeeze", (values(shape), vector(*axes)), {}, opset, frozenset({1} if known else ())), seed=seed)


@given(case=shapes_with_ones(), opset=OPSETS, known=st.booleans(), seed=SEEDS)
def test_part_of_unsqueeze_equals_the_whole(
    case: tuple[tuple[int, ...], tuple[int, ...]], opset: int, known: bool, seed: int
) -> None:
    shape, axes = case
    x = values([length for axis, length in enumerate(shape) if axis not in axes])
    if not axes:
        return
    if opset < 13:
        check(Case("Unsqueeze", (x,), {"axes": axes}, opset), seed=seed)
    else:
        check(Case("Unsqueeze", (x, vector(*axes)), {}, opset, frozenset({1} if known else ())), seed=seed)


@given(shape=st.lists(st.integers(1, 5), max_size=5), data=st.data(), opset=OPSETS, seed=SEEDS)
def test_part_of_transpose_equals_the_whole(shape: list[int], data: st.DataObject, opset: int, seed: int) -> None:
    order = data.draw(st.permutations(list(range(len(shape)))))
    attributes = {"perm": tuple(order)} if data.draw(st.booleans()) and order else {}
    check(Case("Transpose", (values(shape),), attributes, opset), seed=seed)


def test_reshape_loses_no_element() -> None:
    case = Case("Reshape", (np.arange(60, dtype=np.float32).reshape(3, 4, 5), vector(12, 5)))
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    produced = rule.produces(bound, (Region.of((5, 7), (1, 3)),))
    source, _ = rule.needs(bound, produced)
    assert source is not None
    assert produced[0] is not None
    assert math.prod(source.shape) == math.prod(produced[0].shape)


@given(
    op_type=st.sampled_from(("DepthToSpace", "SpaceToDepth")),
    sizes=st.tuples(*[st.integers(1, 3)] * 4),
    block=st.integers(1, 3),
    mode=st.sampled_from((None, "DCR", "CRD")),
    opset=st.sampled_from((11, 13, 21)),
    seed=SEEDS,
)
def test_part_of_block_rearrangement_equals_the_whole(
    op_type: str, sizes: tuple[int, int, int, int], block: int, mode: str | None, opset: int, seed: int
) -> None:
    n, c, h, w = sizes
    attributes: dict[str, AttributeValue] = {"blocksize": block}
    if op_type == "DepthToSpace":
        shape = (n, c * block * block, h, w)
        attributes |= {} if mode is None else {"mode": mode}
    else:
        shape = (n, c, h * block, w * block)
    check(Case(op_type, (values(shape),), attributes, opset), seed=seed)
