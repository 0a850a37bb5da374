"""Exchanges: what is copied, and from whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.exchange import Copy, copies_for
from flexpie.core.region import Region, subtract_all
from flexpie.core.scheme import SPLITTING, Scheme, owned_regions


def rows(start: int, stop: int) -> Region:
    return Region.of((start, stop), (0, 4))


OWNERS = {0: rows(0, 4), 1: rows(4, 8), 2: rows(8, 12)}


def test_halo_rows_come_from_the_neighbours() -> None:
    assert copies_for("x", 1, rows(3, 9), [rows(4, 8)], OWNERS) == [
        Copy("x", 0, 1, rows(3, 4)),
        Copy("x", 2, 1, rows(8, 9)),
    ]


def test_what_is_held_is_not_sent_again() -> None:
    assert copies_for("x", 1, rows(3, 9), [rows(4, 8), rows(3, 4), rows(8, 10)], OWNERS) == []


def test_a_replicated_tensor_is_sent_once() -> None:
    owners = {0: rows(0, 12), 1: rows(0, 12)}
    assert copies_for("x", 2, rows(0, 12), [], owners) == [Copy("x", 0, 2, rows(0, 12))]


def test_nothing_needed_of_a_zero_size_tensor() -> None:
    assert copies_for("x", 1, Region.whole((0, 4)), [], {0: Region.whole((0, 4))}) == []


def test_a_region_without_owner_is_a_defect() -> None:
    with pytest.raises(ValueError, match="no owner"):
        copies_for("x", 1, rows(0, 20), [], OWNERS)


@given(
    st.data(),
    st.sampled_from(SPLITTING),
    st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=5).filter(any),
)
def test_copies_are_disjoint_and_cover_what_is_missing(
    data: st.DataObject, scheme: Scheme, shares: list[float]
) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 4))
    owners = {d: region for d, region in enumerate(owned_regions(scheme, shape, shares)) if region is not None}
    bounds = [[sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape] for _ in range(2)]
    boxes = [Region.of(*((low, high) for low, high in box)) for box in bounds]
    destination = data.draw(st.integers(0, len(shares) - 1))
    held = [boxes[1], *([owners[destination]] if destination in owners else [])]
    copies = copies_for("x", destination, boxes[0], held, owners)
    missing = subtract_all(boxes[0], held)
    assert sum(copy.region.size for copy in copies) == sum(box.size for box in missing)
    assert all(owners[copy.source].contains(copy.region) and copy.source != destination for copy in copies)
    assert subtract_all(boxes[0], [*held, *(copy.region for copy in copies)]) == []
