"""When a client asks again by itself: inference changes nothing, so that a request may be sent as often as needed."""

from __future__ import annotations

import random

from flexpie.core.errors import ErrorCode, FlexPieError

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5

_PASSING = frozenset({ErrorCode.DEVICE_UNREACHABLE, ErrorCode.SHUTTING_DOWN})
"""The master, or a device, is on its way back."""


class Retries:
    """The attempts of one call."""

    def __init__(self, deadline: float, reached: bool) -> None:
        """`deadline` is a time of the caller's clock; `reached` tells whether the master has ever answered: who has
        its address wrong is told at once."""
        self._deadline = deadline
        self._reached = reached
        self._pause = FIRST_PAUSE_SECONDS

    def pause_after(self, error: FlexPieError, now: float) -> float | None:
        """How many seconds to wait before the next attempt; None where the error is final, or the time is over.

        As long as the master asks for, or else twice as long each time; a little more or less, so that many clients do
        not come all at once.
        """
        passing = error.code in _PASSING and self._reached
        if not passing and error.retry_seconds is None:
            return None
        pause = (self._pause if error.retry_seconds is None else error.retry_seconds) * random.uniform(0.8, 1.2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return pause if now + pause < self._deadline else None
