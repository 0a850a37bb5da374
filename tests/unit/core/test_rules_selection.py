"""Rules of operators that copy a choice of elements, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values, vector

SEEDS = st.integers(0, 9999)
SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=4)
FAR = 2**31 - 1


@st.composite
def slices(draw: st.DrawFn) -> Case:
    shape = draw(SHAPES)
    opset = draw(st.sampled_from((7, 10, 11, 13, 21)))
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    if draw(st.booleans()):
        axes = list(range(len(axes)))
    starts, ends, steps = [], [], []
    for axis in axes:
        start = draw(st.integers(0, shape[axis] - 1))
        step = draw(st.sampled_from((1, 1, 1, 2, 3, -1, -2))) if opset >= 10 else 1
        end = draw(st.integers(start + 1, shape[axis])) if step > 0 else draw(st.integers(0, start)) - 1
        if end == -1 or draw(st.booleans()):
            end = FAR if step > 0 else -FAR
        starts.append(start - shape[axis] if draw(st.booleans()) else start)
        ends.append(end)
        steps.append(step)
    implicit = axes == list(range(len(axes))) and draw(st.booleans())
    x = values(shape)
    if opset < 10:
        attributes: dict[str, Any] = {"starts": tuple(starts), "ends": tuple(ends)}
        return Case("Slice", (x,), attributes | ({} if implicit else {"axes": tuple(axes)}), opset)
    inputs: list[Array | None] = [x, vector(*starts), vector(*ends)]
    stepless = all(step == 1 for step in steps) and draw(st.booleans())
    if not implicit or not stepless:
        inputs.append(None if implicit else vector(*axes))
    if not stepless:
        inputs.append(vector(*steps))
    if draw(st.booleans()):
        inputs[1:] = [None if array is None else array.astype(np.int32) for array in inputs[1:]]
    return Case("Slice", tuple(inputs), {}, opset, frozenset({1, 2, 3, 4} if draw(st.booleans()) else {1, 3, 4}))


@given(case=slices(), seed=SEEDS)
def test_part_of_slice_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed)


def test_slice_needs_what_it_reads() -> None:
    case = Case("Slice", (values((10, 10)), vector(1, -1), vector(9, -FAR), vector(0, 1), vector(2, -3)), {}, 13,
                frozenset({1, 2, 3, 4}))  # fmt: skip
    bound = bound_case(case, run(case))
    rule, produced = rule_for(bound.operator), (Region.of((1, 3), (2, 4)),)
    assert bound.output().shape == (4, 4)
    assert rule.needs(bound, produced) == (Region.of((3, 6), (0, 4)), None, None, None, None)
    unknown = bound_case(Case("Slice", case.inputs, {}, 13), run(case))
    assert rule.needs(unknown, produced)[0] == Region.of((0, 10), (0, 10))


@given(
    shape=SHAPES,
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    axis=st.integers(-4, 3),
    equal=st.booleans(),
    opset=st.sampled_from((7, 11, 13, 17, 18, 21)),
    seed=SEEDS,
)
def test_part_of_split_equals_the_whole(
    shape: list[int], sizes: list[int], axis: int, equal: bool, opset: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    if equal:
        sizes = [sizes[0]] * len(sizes)
    shape[axis] = sum(sizes)
    attributes: dict[str, Any] = {"axis": axis % len(shape) if opset < 11 else axis}
    inputs = [values(shape)]
    if equal and opset >= 18:
        attributes["num_outputs"] = len(sizes)
    elif not equal and opset < 13:
        attributes["split"] = tuple(sizes)
    elif not equal:
        inputs.append(vector(*sizes))
    check(Case("Split", tuple(inputs), attributes, opset, frozenset({1}), (True,) * len(sizes)), seed=seed)


def test_split_into_unequal_outputs() -> None:
    check(Case("Split", (values((7, 3)),), {"num_outputs": 3, "axis": 0}, 18, outputs=(True,) * 3), seed=1)


def test_split_needs_one_interval() -> None:
    case = Case("Split", (values((2, 12)), vector(3, 3, 3, 3)), {"axis": 1}, 13, outputs=(True,) * 4)
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    produced = rule.produces(bound, (None, Region.of((0, 1), (2, 3)), None, Region.of((0, 2), (0, 1))))
    assert produced == (
        Region.of((0, 2), (0, 0)),
        Region.of((0, 2), (2, 3)),
        Region.of((0, 2), (0, 3)),
        Region.of((0, 2), (0, 1)),
    )
    assert rule.needs(bound, produced) == (Region.of((0, 2), (5, 10)), None)


@given(
    shape=SHAPES,
    indices=st.lists(st.integers(0, 2), max_size=2),
    axis=st.integers(-4, 3),
    negative=st.sampled_from(("none", "all", "some")),
    kind=st.sampled_from(("int32", "int64")),
    known=st.booleans(),
    opset=st.sampled_from((7, 11, 13, 21)),
    seed=SEEDS,
)
def test_part_of_gather_equals_the_whole(
    shape: list[int],
    indices: list[int],
    axis: int,
    negative: str,
    kind: str,
    known: bool,
    opset: int,
    seed: int,
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    length = shape[axis]
    source = np.random.default_rng(seed)
    found = np.asarray(source.integers(0, length, [size + 1 for size in indices]))
    if negative != "none" and opset >= 11:
        found = found - length * (1 if negative == "all" else source.integers(0, 2, found.shape))
    inputs = (values(shape), np.asarray(found).astype(kind))
    check(Case("Gather", inputs, {"axis": axis}, opset, frozenset({1} if known else ())), seed=seed)


@pytest.mark.parametrize(
    ("indices", "part", "entries"),
    [
        (np.array(0), (), (0, 1)),
        (np.array(-1), (), (8, 9)),
        (np.array([5, 3, 7]), ((0, 2),), (3, 6)),
        (np.array([-1, 3, 7]), ((0, 1),), (8, 9)),
        (np.array([[1, 4]]), ((0, 1), (0, 1)), (0, 5)),
    ],
)
def test_gather_needs_known_entries(
    indices: np.ndarray[Any, Any], part: tuple[tuple[int, int], ...], entries: tuple[int, int]
) -> None:
    case = Case("Gather", (values((2, 9, 4)), indices), {"axis": 1}, 13, frozenset({1}))
    bound = bound_case(case, run(case))
    needed = rule_for(bound.operator).needs(bound, (Region.of((0, 2), *part, (1, 3)),))
    assert needed[0] == Region.of((0, 2), entries, (1, 3))


def test_embedding_is_needed_whole() -> None:
    case = Case("Gather", (values((30, 8)), values((1, 5), 1, "int64")), {}, 13, frozenset({0}))
    bound = bound_case(case, run(case))
    needed = rule_for(bound.operator).needs(bound, (Region.of((0, 1), (2, 4), (0, 8)),))
    assert needed == (Region.of((0, 30), (0, 8)), Region.of((0, 1), (2, 4)))


@given(
    output=SHAPES, ones=st.lists(st.booleans(), min_size=4, max_size=4), skipped=st.integers(0, 3), known=st.booleans(),
    opset=st.sampled_from((8, 13, 21)), seed=SEEDS,
)  # fmt: skip
def test_part_of_expand_equals_the_whole(
    output: list[int], ones: list[bool], skipped: int, known: bool, opset: int, seed: int
) -> None:
    shape = [1 if one else length for length, one in zip(output, ones, strict=False)][skipped:]
    case = Case("Expand", (values(shape), vector(*output)), {}, opset, frozenset({1} if known else ()))
    check(case, seed=seed)


@given(shape=SHAPES, repeats=st.lists(st.integers(1, 3), min_size=4, max_size=4), seed=SEEDS)
def test_part_of_tile_equals_the_whole(shape: list[int], repeats: list[int], seed: int) -> None:
    check(Case("Tile", (values(shape), vector(*repeats[: len(shape)])), {}, 13, frozenset({1})), seed=seed)


@st.composite
def paddings(draw: st.DrawFn) -> Case:
    shape = draw(SHAPES)
    opset = draw(st.sampled_from((7, 11, 13, 18, 21)))
    mode = draw(st.sampled_from(("constant", "constant", "edge", "reflect") + (("wrap",) if opset >= 19 else ())))
    axes = list(range(len(shape)))
    if opset >= 18 and draw(st.booleans()):
        axes = sorted(draw(st.sets(st.sampled_from(axes), min_size=1)))
    pads = [0] * (2 * len(axes))
    for index, axis in enumerate(axes):
        limit = 4 if mode in {"constant", "edge"} else shape[axis] - 1
        lowest = -(shape[axis] // 2) if mode in {"constant", "reflect"} else 0
        pads[index] = draw(st.integers(lowest, limit))
        left = shape[axis] + min(0, pads[index]) - 1
        pads[index + len(axes)] = draw(st.integers(max(lowest, -left), limit))
    if opset < 11:
        return Case("Pad", (values(shape),), {"mode": mode, "pads": tuple(pads)}, opset)
    inputs = [values(shape), vector(*pads)]
    partial = len(axes) < len(shape)
    if partial or draw(st.booleans()):
        inputs.append(np.array(1.5, np.float32))
    if partial:
        inputs.append(vector(*axes))
    return Case("Pad", tuple(inputs), {"mode": mode}, opset, frozenset({1, 3}))


@given(case=paddings(), seed=SEEDS)
def test_part_of_pad_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed)


def test_part_of_padding_only_takes_the_nearest_element() -> None:
    case = Case("Pad", (values((5,)), vector(3, 2)), {}, 13, frozenset({1}))
    bound = check(case, (Region.of((0, 2)),))
    rule = rule_for(bound.operator)
    produced = rule.produces(bound, (Region.of((0, 2)),))
    assert produced == (Region.of((0, 4)),)
    assert rule.needs(bound, produced) == (Region.of((0, 1)), None)
