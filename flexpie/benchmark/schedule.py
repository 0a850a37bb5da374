"""The order of launches in a cell, and how long what is left will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def turns(strategies: Sequence[str], launches: int, done: Mapping[str, int] | None = None) -> list[tuple[int, str]]:
    """Round (from 1) and strategy of each launch that is left, in the order in which to do them.

    In a round each strategy has one launch, so that neighbours see the same machine, and drift hits all alike. Each
    round begins with another strategy and goes the other way round than the one before, so that none always runs
    behind the same one.

    Parameters
    ----------
    done: how many launches of a strategy there are already: its rounds 1 to `done` are left out.
    """
    known = done or {}
    found = []
    for number in range(1, launches + 1):
        begin = (number - 1) % len(strategies) if strategies else 0
        order = [*strategies[begin:], *strategies[:begin]]
        if number % 2 == 0:
            order = [order[0], *reversed(order[1:])]
        found += [(number, name) for name in order if known.get(name, 0) < number]
    return found


class Pace:
    """How long launches take, so far."""

    def __init__(self, guess_seconds: float = 8.0) -> None:
        """`guess_seconds` counts until something is known."""
        self._guess = guess_seconds
        self._spent: dict[str, list[float]] = {}

    def note(self, model: str, seconds: float) -> None:
        """A launch of a model took so long."""
        self._spent.setdefault(model, []).append(seconds)

    def of(self, model: str) -> float:
        """Seconds that a launch of a model takes on average; of all models where it had none."""
        everything = [value for values in self._spent.values() for value in values]
        values = self._spent.get(model) or everything
        return sum(values) / len(values) if values else self._guess

    def left(self, launches: Mapping[str, int]) -> float:
        """Seconds that so many launches of each model will take."""
        return sum(count * self.of(model) for model, count in launches.items())


def requests_in(seconds: float, one_request: float, least: int = 5, most: int = 50) -> int:
    """Requests that fill a launch of about so many seconds."""
    return max(least, min(most, round(seconds / max(one_request, 1e-6))))
