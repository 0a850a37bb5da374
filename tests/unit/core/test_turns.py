"""Requests are given to devices in proportion to their parts, and first to who is free."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.plan import Segment
from flexpie.core.scheme import DATA_PARALLEL, REPLICATED, owned_regions, single
from flexpie.core.turns import next_turn, turn, turns

TURNS = (Segment(0, 5, DATA_PARALLEL, (1.0, 0.0, 3.0)),)


def test_parts_add_up_to_all_requests() -> None:
    assert turns(TURNS) == {0: 0.25, 2: 0.75}
    assert turns(()) == turns((Segment(0, 5, REPLICATED, (1.0, 1.0)),)) == {}


def test_a_turn_is_a_plan_of_one_device() -> None:
    assert turn(TURNS, 2) == (Segment(0, 5, single(2), (0.0, 0.0, 1.0)),)


def test_every_device_that_takes_part_has_everything() -> None:
    assert owned_regions(DATA_PARALLEL, (1, 3), (1.0, 0.0, 3.0)) == owned_regions(REPLICATED, (1, 3), (1.0, 0.0, 3.0))


def test_a_lone_request_goes_to_the_device_with_the_largest_part() -> None:
    assert next_turn({0: 0.25, 1: 0.5, 2: 0.25}, {}) == 1
    assert next_turn({0: 0.5, 1: 0.5}, {}) == 0


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.integers(1, 20))
def test_requests_are_spread_in_proportion(weights: list[int], in_flight: int) -> None:
    """Devices that need a time in proportion to 1 / part for each request answer their part of many."""
    parts = {device: weight / sum(weights) for device, weight in enumerate(weights)}
    running: Counter[int] = Counter()
    for _ in range(in_flight):
        running[next_turn(parts, running)] += 1
    fewest = min((running[device] + 1) / part for device, part in parts.items())
    assert all(running[device] / part <= fewest + 1e-9 for device, part in parts.items()), "nobody has one too many"
