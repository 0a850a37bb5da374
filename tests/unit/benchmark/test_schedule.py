"""Launches are interleaved, and what is done is not done again."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from flexpie.benchmark.schedule import Pace, requests_in, turns

NAMES = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=8, unique=True)


@given(NAMES, st.integers(1, 9))
def test_each_round_has_every_strategy_once(names: list[str], launches: int) -> None:
    found = turns(names, launches)
    for number, group in itertools.groupby(found, lambda turn: turn[0]):
        assert sorted(name for _, name in group) == sorted(names), number
    assert [number for number, _ in found] == sorted(number for number, _ in found)


@given(NAMES, st.integers(1, 9), st.data())
def test_what_is_done_is_left_out_and_nothing_else(names: list[str], launches: int, data: st.DataObject) -> None:
    done = {name: data.draw(st.integers(0, launches + 1)) for name in names}
    left = turns(names, launches, done)
    assert left == [(number, name) for number, name in turns(names, launches) if number > done[name]]


def test_rounds_begin_with_each_in_turn_and_change_direction() -> None:
    order = "".join(name for _, name in turns(["a", "b", "c", "d"], 4))
    assert [order[start : start + 4] for start in range(0, 16, 4)] == ["abcd", "badc", "cdab", "dcba"]


def test_the_pace_is_that_of_the_model_or_of_all_or_a_guess() -> None:
    pace = Pace(guess_seconds=3.0)
    assert pace.of("resnet18") == 3.0
    pace.note("resnet18", 4.0)
    pace.note("resnet18", 6.0)
    pace.note("bert_base", 20.0)
    assert pace.of("resnet18") == 5.0
    assert pace.of("digits") == 10.0
    assert pace.left({"resnet18": 2, "bert_base": 1}) == 30.0


def test_a_launch_has_as_many_requests_as_fill_its_time_within_limits() -> None:
    assert requests_in(2.0, 0.1) == 20
    assert requests_in(2.0, 10.0) == 5
    assert requests_in(2.0, 0.0) == 50
