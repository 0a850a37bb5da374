"""Schemes: who owns what."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Interval, Region, subtract_all
from flexpie.core.scheme import (
    GRID_2D,
    IN_H,
    IN_W,
    OUT_C,
    REPLICATED,
    SPLITTING,
    Scheme,
    SchemeKind,
    divide,
    owned_regions,
    single,
)

SHARES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0]), min_size=1, max_size=8).filter(any)
SHAPES = st.lists(st.integers(1, 12), max_size=5).map(tuple)


def lengths(length: int, *shares: float) -> list[int]:
    return [part.length for part in divide(length, shares)]


@pytest.mark.parametrize(
    ("length", "shares", "expected"),
    [
        (8, (1, 1, 1, 1), [2, 2, 2, 2]),
        (7, (1, 1, 1), [3, 2, 2]),
        (10, (1, 0, 3), [2, 0, 8]),
        (1, (1, 2, 1), [0, 1, 0]),
        (3, (1, 1, 1, 1), [1, 1, 1, 0]),
        (9, (2, 1), [6, 3]),
        (0, (1, 1), [0, 0]),
    ],
)
def test_division(length: int, shares: tuple[float, ...], expected: list[int]) -> None:
    assert lengths(length, *shares) == expected


@given(st.integers(0, 200), SHARES)
def test_division_is_in_proportion(length: int, shares: list[float]) -> None:
    parts = divide(length, shares)
    assert parts[0].start == 0
    assert parts[-1].stop == length
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    for part, share in zip(parts, shares, strict=True):
        assert abs(part.length - length * share / sum(shares)) < 1
        assert share or not part.length


@given(st.sampled_from(SPLITTING), SHAPES, SHARES)
def test_owned_regions_are_disjoint_and_cover_the_tensor(
    scheme: Scheme, shape: tuple[int, ...], shares: list[float]
) -> None:
    owned = owned_regions(scheme, shape, shares)
    assert not any(region for region, share in zip(owned, shares, strict=True) if not share)
    regions = [region for region in owned if region is not None]
    assert sum(region.size for region in regions) == Region.whole(shape).size
    assert subtract_all(Region.whole(shape), regions) == []


def test_axes_of_images_sequences_and_matrices() -> None:
    assert owned_regions(IN_H, (1, 4, 6, 8), (1, 1))[1] == Region.of((0, 1), (0, 4), (3, 6), (0, 8))
    assert owned_regions(IN_W, (1, 4, 6, 8), (1, 1))[1] == Region.of((0, 1), (0, 4), (0, 6), (4, 8))
    assert owned_regions(OUT_C, (1, 4, 6, 8), (1, 1))[1] == Region.of((0, 1), (2, 4), (0, 6), (0, 8))
    assert owned_regions(IN_H, (1, 6, 8), (1, 1))[1] == Region.of((0, 1), (3, 6), (0, 8))
    assert owned_regions(OUT_C, (1, 6, 8), (1, 1))[1] == Region.of((0, 1), (0, 6), (4, 8))
    assert owned_regions(OUT_C, (1, 8), (1, 1))[1] == Region.of((0, 1), (4, 8))


def test_a_missing_axis_leaves_the_tensor_to_the_largest_share() -> None:
    assert owned_regions(IN_H, (1, 8), (1, 3, 2)) == (None, Region.whole((1, 8)), None)


def test_grid_of_three_gives_each_its_share() -> None:
    areas = [region.size for region in owned_regions(GRID_2D, (1, 1, 12, 12), (1, 1, 1)) if region]
    assert areas == [48, 48, 48]


def test_neighbours_on_a_ring_of_four_are_neighbours_in_the_grid() -> None:
    corners = [region[2:] for region in owned_regions(GRID_2D, (1, 1, 4, 4), (1,) * 4) if region]
    near, far = Interval(0, 2), Interval(2, 4)
    assert corners == [(near, near), (near, far), (far, far), (far, near)]


def test_weighted_grid_of_five() -> None:
    shares = (1.0, 1.0, 2.0, 2.0, 4.0)
    areas = [region.size for region in owned_regions(GRID_2D, (1, 1, 100, 100), shares) if region]
    for area, share in zip(areas, shares, strict=True):
        assert area == pytest.approx(1000 * share, rel=0.1)


def test_idle_devices_when_rows_are_few() -> None:
    assert sum(region is not None for region in owned_regions(IN_H, (1, 8, 2, 9), (1,) * 5)) == 2


def test_single_and_replicated() -> None:
    whole = Region.whole((2, 3))
    assert owned_regions(single(1), (2, 3), (1, 1)) == (None, whole)
    assert owned_regions(REPLICATED, (2, 3), (1, 0, 2)) == (whole, None, whole)


def test_zero_size_tensor_has_an_owner() -> None:
    assert owned_regions(OUT_C, (0, 4), (0, 1, 1)) == (None, Region.whole((0, 4)), None)


def test_a_device_belongs_to_single_only() -> None:
    with pytest.raises(ValueError, match="Single"):
        Scheme(SchemeKind.SINGLE)
    with pytest.raises(ValueError, match="Single"):
        Scheme(SchemeKind.IN_H, 1)
    assert (str(single(2)), str(IN_H)) == ("Single(2)", "InH")
