"""Rules of operators that read or write at named places, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values

SEEDS = st.integers(0, 9999)
AXES = st.integers(-4, 3)
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def places(shape: list[int] | tuple[int, ...], limits: Any, seed: int, negative: bool = False) -> Array:
    """Random indices below limits that broadcast to the shape."""
    found = np.random.default_rng(seed).integers(0, np.broadcast_to(limits, shape))
    return np.asarray(found - (np.asarray(limits) if negative else 0)).astype(np.int64)


@given(shape=SHAPES, less=st.lists(st.integers(0, 2), min_size=4, max_size=4), axis=AXES,
       negative=st.booleans(), seed=SEEDS)  # fmt: skip
def test_part_of_gathered_elements_equals_the_whole(
    shape: list[int], less: list[int], axis: int, negative: bool, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    chosen = [max(1, length - fewer) for length, fewer in zip(shape, less, strict=False)]
    chosen[axis] = less[3] + 1
    indices = places(chosen, shape[axis], seed, negative)
    check(Case("GatherElements", (values(shape), indices), {"axis": axis}, 13), seed=seed)


@given(shape=SHAPES, any_axes=st.lists(st.integers(1, 3), max_size=2), batch=st.integers(0, 2), depth=st.integers(1, 3),
       negative=st.booleans(), seed=SEEDS)  # fmt: skip
def test_part_of_gathered_slices_equals_the_whole(
    shape: list[int], any_axes: list[int], batch: int, depth: int, negative: bool, seed: int
) -> None:
    batch = min(batch, len(shape) - 1)
    depth = min(depth, len(shape) - batch)
    indices = places([*shape[:batch], *any_axes, depth], shape[batch : batch + depth], seed, negative)
    check(Case("GatherND", (values(shape), indices), {"batch_dims": batch}, 13), seed=seed)


@given(shape=SHAPES, less=st.lists(st.integers(0, 1), min_size=4, max_size=4), axis=AXES,
       reduction=st.sampled_from(("none", "add", "max")), opset=st.sampled_from((9, 11, 16, 18)),
       seed=SEEDS)  # fmt: skip
def test_part_of_scattered_elements_equals_the_whole(
    shape: list[int], less: list[int], axis: int, reduction: str, opset: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    chosen = [max(1, length - fewer) for length, fewer in zip(shape, less, strict=False)]
    others = [np.random.default_rng(seed).permutation(shape[axis])[: chosen[axis]]]  # each place once
    indices = np.moveaxis(np.broadcast_to(others[0], [*np.delete(chosen, axis), chosen[axis]]), -1, axis)
    attributes: dict[str, Any] = {"axis": axis}
    if opset >= 16 and (opset >= 18 or reduction != "max"):
        attributes["reduction"] = reduction
    inputs = (values(shape), np.ascontiguousarray(indices).astype(np.int64), values(chosen, 2))
    check(Case("Scatter" if opset < 11 else "ScatterElements", inputs, attributes, opset), seed=seed)


@given(shape=SHAPES, count=st.integers(1, 3), depth=st.integers(1, 3), opset=st.sampled_from((11, 16)), seed=SEEDS)
def test_part_of_scattered_slices_equals_the_whole(
    shape: list[int], count: int, depth: int, opset: int, seed: int
) -> None:
    depth = min(depth, len(shape))
    total = int(np.prod(shape[:depth]))
    flat = np.random.default_rng(seed).permutation(total)[:count]
    indices = np.stack(np.unravel_index(flat, shape[:depth]), axis=-1).astype(np.int64)
    attributes: dict[str, Any] = {"reduction": "add"} if opset >= 16 else {}
    inputs = (values(shape), indices, values([len(flat), *shape[depth:]], 1))
    check(Case("ScatterND", inputs, attributes, opset), seed=seed)


@given(shape=st.lists(st.integers(1, 4), max_size=3), axis=AXES, opset=st.sampled_from((9, 11)), seed=SEEDS)
def test_part_of_one_hot_equals_the_whole(shape: list[int], axis: int, opset: int, seed: int) -> None:
    axis = max(-len(shape) - 1, min(axis, len(shape)))
    inputs = (places(shape, 6, seed), np.array(6, np.int64), np.array([0.5, 2], np.float32))
    check(Case("OneHot", inputs, {"axis": axis}, opset), seed=seed)


def test_updates_of_fewer_lines_leave_their_axis_whole() -> None:
    inputs = (values((4, 6)), np.zeros((3, 2), np.int64), values((3, 2), 1))
    case = Case("ScatterElements", inputs, {"axis": 1}, 16)
    bound = bound_case(case, run(case))
    produced = rule_for(bound.operator).produces(bound, (Region.of((1, 2), (0, 1)),))
    assert produced == (Region.of((0, 4), (0, 6)),)
