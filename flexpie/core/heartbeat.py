"""When silence counts as death."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_PATIENCE_SECONDS = 0.1
"""A device that is busy takes tens of milliseconds to answer."""
LONGEST_PATIENCE_SECONDS = 60.0
"""With more, requests would wait for a lost device for as long as their deadlines allow."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How soon somebody who says nothing is given up."""

    dead_after_seconds: float = 1.0
    misses: int = 4
    """So many beats must be missed, one after another: one or two are late on a busy machine."""

    @property
    def interval_seconds(self) -> float:
        """From one beat to the next: short enough that the last miss comes within the time, even if silence begins
        right behind a beat."""
        return self.dead_after_seconds / (self.misses + 1)


class MissCounter:
    """Counts the intervals in which nothing was heard, one after another.

    Intervals count, not seconds: whoever counts may have been held up himself (a busy machine, a suspended process),
    and that is one late tick, not the death of everybody else.
    """

    def __init__(self, misses: int) -> None:
        self._limit = misses
        self._missed = 0
        self._heard = True

    def heard(self) -> None:
        """There is a sign of life."""
        self._heard = True

    def tick(self) -> bool:
        """An interval is over; returns whether the other side counts as dead."""
        self._missed = 0 if self._heard else self._missed + 1
        self._heard = False
        return self._missed >= self._limit
