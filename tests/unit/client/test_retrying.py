"""A client asks again where that may help, for as long as it has time."""

from __future__ import annotations

import itertools

import pytest

from flexpie.client.retrying import LONGEST_PAUSE_SECONDS, Retries
from flexpie.core.errors import ErrorCode, FlexPieError

GONE = FlexPieError(ErrorCode.DEVICE_UNREACHABLE, "The master does not answer.")


def test_a_master_that_is_gone_is_waited_for_with_growing_pauses_until_the_deadline() -> None:
    retries, now, pauses = Retries(60.0, reached=True), 0.0, []
    while (pause := retries.pause_after(GONE, now)) is not None:
        pauses.append(pause)
        now += pause
    assert 59 < now < 60
    assert all(pause <= 1.2 * LONGEST_PAUSE_SECONDS for pause in pauses)
    assert all(before < after for before, after in itertools.pairwise(pauses[:3]))


def test_an_address_at_which_nobody_ever_answered_is_told_at_once() -> None:
    assert Retries(60.0, reached=False).pause_after(GONE, 0.0) is None


def test_the_master_says_when_to_come_back() -> None:
    busy = FlexPieError(ErrorCode.OVERLOADED, "Busy.", retry_seconds=10.0)
    pause = Retries(60.0, reached=False).pause_after(busy, 0.0)
    assert pause is not None
    assert 8.0 <= pause <= 12.0
    assert Retries(5.0, reached=False).pause_after(busy, 0.0) is None


@pytest.mark.parametrize("code", [ErrorCode.INVALID_INPUT, ErrorCode.MODEL_NOT_READY, ErrorCode.EXECUTION_FAILED])
def test_what_stays_wrong_is_told_at_once(code: ErrorCode) -> None:
    assert Retries(60.0, reached=True).pause_after(FlexPieError(code, "Wrong."), 0.0) is None
