"""Box arithmetic, by values and against sets of points."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Interval, Region, subtract_all

BOUNDS = st.tuples(st.integers(0, 5), st.integers(0, 5))


@st.composite
def regions(draw: st.DrawFn, rank: int = 2) -> Region:
    return Region.of(*(draw(BOUNDS) for _ in range(rank)))


def points(region: Region) -> set[tuple[int, ...]]:
    return set(itertools.product(*(range(start, stop) for start, stop in region)))


def test_size_and_shape() -> None:
    region = Region.of((1, 3), (0, 4))
    assert (region.shape, region.size, region.is_empty) == ((2, 4), 8, False)
    assert Region.of((2, 2), (0, 4)).is_empty
    assert Region.of((3, 1)).size == 0


def test_scalar() -> None:
    scalar = Region.whole(())
    assert (scalar.size, scalar.is_empty) == (1, False)
    assert scalar.subtract(scalar) == []
    with pytest.raises(ValueError, match="scalar"):
        Region.empty(0)


def test_text() -> None:
    assert str(Region.of((0, 1), (4, 9))) == "[0:1, 4:9]"


def test_slices_are_relative() -> None:
    assert Region.of((3, 5)).relative_to(Region.of((2, 9))) == (slice(1, 3),)


def test_with_axis_from_the_end() -> None:
    assert Region.of((0, 2), (0, 3)).with_axis(-1, Interval(1, 2)) == Region.of((0, 2), (1, 2))


@given(regions(), regions())
def test_intersection(a: Region, b: Region) -> None:
    assert points(a.intersect(b)) == points(a) & points(b)


@given(regions(), regions())
def test_hull_is_the_smallest_box(a: Region, b: Region) -> None:
    both = points(a) | points(b)
    hull = a.hull(b)
    assert both <= points(hull)
    for axis in range(2):
        if both:
            assert hull[axis] == (min(p[axis] for p in both), max(p[axis] for p in both) + 1)


@given(regions(), regions())
def test_contains(a: Region, b: Region) -> None:
    assert a.contains(b) == (points(b) <= points(a))


@given(regions(3), regions(3))
def test_subtraction_is_disjoint_and_exact(a: Region, b: Region) -> None:
    rest = a.subtract(b)
    assert len(rest) <= 6
    assert sum(piece.size for piece in rest) == len(points(a) - points(b))
    assert set().union(*map(points, rest)) == points(a) - points(b)


@given(regions(), st.lists(regions(), max_size=3))
def test_subtract_all(region: Region, held: list[Region]) -> None:
    left = points(region) - set().union(*map(points, held))
    rest = subtract_all(region, held)
    assert sum(piece.size for piece in rest) == len(left)
    assert set().union(*map(points, rest)) == left
