"""Which requests of a model run together, and when. Pure: no clock, no tasks, no sockets.

- Bounded wait: once a run is free a request waits for others `wait_seconds` at most, and not at all where
  too little time would be left to answer it. While all runs are taken, requests gather at no cost.
- A batch has requests of one kind (one set of shapes), in the order in which they came; the kind whose first request
  came first goes first. Nothing is lost: a request starts once, unless it leaves before.
- A batch is as large as a size there is. Seven requests are run as 4, 2 and 1: nothing is padded, no work is wasted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Ticket = int
Kind = int
Sizes = Callable[[Kind], Sequence[int]]
"""The sizes of batches that a kind can be run in now, smallest first; 1 is always one of them."""

FIRST_GUESS_SECONDS = 0.05
"""Of what a run takes, before one has ended."""
CAUTION = 3
"""A request is held where so many times what a run takes is left behind that."""
_WEIGHT = 0.2
"""Of the latest run in the average of what they take."""


@dataclass(frozen=True)
class Batch:
    """Requests that run together from now on."""

    kind: Kind
    tickets: tuple[Ticket, ...]


@dataclass(frozen=True)
class _Waiting:
    ticket: Ticket
    due_at: float
    """When it waits for no others any more."""


class Batcher:
    """Requests that gather, and how many runs are taken."""

    def __init__(self, wait_seconds: float, runs: int) -> None:
        """`runs` are what may be under way at once."""
        self.runs = runs
        self._wait_seconds = wait_seconds
        self._running = 0
        self._lines: OrderedDict[Kind, OrderedDict[Ticket, _Waiting]] = OrderedDict()
        self._seconds: dict[Kind, float] = {}
        """What a run of each kind takes, on average."""

    def __len__(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._lines.values()))

    def arrive(self, ticket: Ticket, kind: Kind, deadline: float, now: float) -> None:
        """A request comes; tickets grow from one to the next."""
        until = now + self._wait_seconds
        hurries = until + CAUTION * self._seconds.get(kind, FIRST_GUESS_SECONDS) > deadline
        self._lines.setdefault(kind, OrderedDict())[ticket] = _Waiting(ticket, now if hurries else until)

    def leave(self, ticket: Ticket) -> None:
        """A request is not waited for any more; nothing happens to one that has started."""
        for kind, line in list(self._lines.items()):
            line.pop(ticket, None)
            if not line:
                del self._lines[kind]

    def start(self, now: float, sizes: Sizes) -> list[Batch]:
        """The batches that run from now on; each takes a run until `ended`."""
        started: list[Batch] = []
        while self._running < self.runs and (kind := self._ripe(now, sizes)) is not None:
            line = self._lines[kind]
            size = max(size for size in sizes(kind) if size <= len(line))
            batch = Batch(kind, tuple(line.popitem(last=False)[0] for _ in range(size)))
            if not line:
                del self._lines[kind]
            self._running += 1
            started.append(batch)
        return started

    def ended(self, kind: Kind, seconds: float) -> None:
        """A run is over that took so long."""
        self._running -= 1
        before = self._seconds.get(kind, seconds)
        self._seconds[kind] = before + _WEIGHT * (seconds - before)

    def wake_at(self) -> float | None:
        """When `start` is to be asked again, if nothing happens before."""
        if self._running >= self.runs:
            return None
        return min((item.due_at for line in self._lines.values() for item in line.values()), default=None)

    def _ripe(self, now: float, sizes: Sizes) -> Kind | None:
        """The kind whose first request came first, among those that are due or whose largest batch is full."""
        ripe = [
            kind
            for kind, line in self._lines.items()
            if len(line) >= max(sizes(kind)) or any(item.due_at <= now for item in line.values())
        ]
        return min(ripe, key=lambda kind: next(iter(self._lines[kind])), default=None)
