"""A refusal is in the log once a minute, however often it happens."""

from __future__ import annotations

import logging

import pytest

from flexpie.security.refusal_log import MAX_KINDS, REPEAT_SECONDS, RefusalLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_same_refusal_is_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    refusals = RefusalLog(logging.getLogger("test"), clock)
    for _ in range(5):
        refusals.note("a", "a call")
    refusals.note("b", "another call")
    clock.now = REPEAT_SECONDS
    refusals.note("a", "a call")
    clock.now *= 3
    refusals.note("a", "a call")
    assert caplog.messages == [
        "refused a call",
        "refused another call",
        "refused a call (4 more since the last such line)",
        "refused a call",
    ]


def test_it_remembers_so_many_kinds_and_no_more(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    refusals = RefusalLog(logging.getLogger("test"), clock)
    for kind in range(MAX_KINDS + 1):
        refusals.note(kind, "a call")
    caplog.clear()
    refusals.note(MAX_KINDS, "still known")
    refusals.note(0, "forgotten")
    assert caplog.messages == ["refused forgotten"]
