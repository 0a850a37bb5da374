"""Which faults come when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.schedule import INTERVAL_SECONDS, LASTING_SECONDS, MOST_LOST, Fault, Kind, draw_schedule
from flexpie.testbed import MASTER

DEVICES = ("d0", "d1", "d2", "d3")
LOSING = {Kind.KILL, Kind.STOP, Kind.UNPLUG}


def test_ten_minutes_have_a_fault_about_every_three_seconds_and_each_kind_many_times() -> None:
    schedule = draw_schedule(1, 600.0, DEVICES)
    assert 600 / INTERVAL_SECONDS * 0.8 < len(schedule) < 600 / INTERVAL_SECONDS * 1.2
    counts = {kind: sum(fault.kind is kind for fault in schedule) for kind in Kind}
    assert min(counts.values()) > 10, counts


def test_a_seed_draws_the_same_faults_again_and_another_one_others() -> None:
    assert draw_schedule(3, 120.0, DEVICES) == draw_schedule(3, 120.0, DEVICES)
    assert draw_schedule(3, 120.0, DEVICES) != draw_schedule(4, 120.0, DEVICES)


@given(seed=st.integers(0, 2**32), seconds=st.floats(1, 200), kinds=st.sets(st.sampled_from(list(Kind)), min_size=1))
def test_every_schedule_can_be_carried_out(seed: int, seconds: float, kinds: set[Kind]) -> None:
    schedule = draw_schedule(seed, seconds, DEVICES, sorted(kinds, key=lambda kind: kind.value))
    assert [fault.at for fault in schedule] == sorted(fault.at for fault in schedule)
    for at, fault in enumerate(schedule):
        shortest, longest = LASTING_SECONDS[fault.kind]
        assert fault.kind in kinds
        assert shortest <= fault.seconds <= longest
        assert fault.until < seconds, "all is mended when the run ends"
        assert _hosts(fault) <= {*DEVICES, MASTER}
        assert len(_hosts(fault)) == (2 if fault.kind in {Kind.CUT, Kind.ONE_WAY} else 1)
        going_on = [other for other in schedule[:at] if other.until > fault.at]
        assert not any(_hosts(fault) & _hosts(other) for other in going_on), "a host has one fault at once"
        if fault.kind in LOSING:
            assert sum(other.kind in LOSING for other in going_on) < MOST_LOST


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(Kind.CUT, 1.0, 2.0, "d0", "d1"), "pair cut: d0 ↔ d1"),
        (Fault(Kind.ONE_WAY, 1.0, 2.0, "d0", "master"), "one-way cut: d0 → master"),
        (Fault(Kind.CLOCK, 1.0, 0.0, "d2", jump_seconds=-3600.0), "clock jump: d2 by -3600 s"),
        (Fault(Kind.KILL, 1.0, 2.0, "d3"), "kill -9: d3"),
    ],
)
def test_a_fault_is_said_in_a_few_words(fault: Fault, text: str) -> None:
    assert str(fault) == text


def _hosts(fault: Fault) -> set[str]:
    return {fault.host, fault.other} - {""}
