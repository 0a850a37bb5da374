"""Several misses in a row are death, and no sooner; the last one comes in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.heartbeat import Heartbeat, MissCounter


def test_one_late_beat_is_forgiven() -> None:
    counter = MissCounter(3)
    verdicts = []
    for heard in (True, False, False, True, False, False, False):
        if heard:
            counter.heard()
        verdicts.append(counter.tick())
    assert verdicts == [False] * 6 + [True]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 6))
def test_it_is_dead_after_so_many_silent_intervals_in_a_row(heard: list[bool], misses: int) -> None:
    counter = MissCounter(misses)
    for index, beat in enumerate(heard):
        if beat:
            counter.heard()
        dead = counter.tick()
        last = heard[max(0, index + 1 - misses) : index + 1]
        # The first interval begins with a connection, which is a sign of life.
        assert dead == (index >= misses and not any(last)), index


@given(st.floats(0.1, 60), st.integers(1, 10))
def test_silence_is_noticed_in_time(dead_after: float, misses: int) -> None:
    heartbeat = Heartbeat(dead_after, misses)
    # The beat that is heard last comes, at worst, right behind a tick.
    assert (misses + 1) * heartbeat.interval_seconds <= dead_after * 1.000001
