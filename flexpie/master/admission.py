"""Which requests the master takes, and in which order they run. Pure: no clock, no tasks, no sockets.

- Bounded: so many requests are held at once, of one model and in all, and so many bytes of their inputs.
- Fair: models have places of their own to run on. Of one model's waiting requests, each client's turn comes once before
  anybody's comes twice. A client that floods the queue leaves room in it for others.
- Nothing is lost: a ticket is refused at once, or starts sooner or later, unless it leaves before.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

Ticket = int
Client = Hashable

GREED = 8
"""A client may hold this many times what is free: alone eight ninths of the places, two such clients eight seventeenths
each. So there is always a place for somebody who has none."""
FIRST_GUESS_SECONDS = 0.05
"""Of what a request takes, before one has ended."""
SHORTEST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 5.0
_WEIGHT = 0.2
"""Of the latest request in the average of what they take."""


@dataclass(frozen=True)
class AdmissionLimits:
    """What the master holds at most."""

    requests: int = 256
    """Waiting and running, of all models."""
    requests_of_a_model: int = 128
    running: int = 32
    """Of one model at once; the others wait."""
    nbytes: int = 1024 * 1024 * 1024
    """Of all requests' inputs."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not taken, and when it may be worth while to ask again."""

    reason: str
    retry_seconds: float


@dataclass
class _Held:
    model: str
    client: Client
    nbytes: int
    started_at: float | None = None


@dataclass
class _Line:
    """The requests of one model."""

    places: int
    waiting: OrderedDict[Client, deque[Ticket]] = field(default_factory=OrderedDict)
    """By client; whose turn is next comes first."""
    running: set[Ticket] = field(default_factory=set)
    held: Counter[Client] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.held.total()


class Admission:
    """Requests that wait and run."""

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self.limits = limits or AdmissionLimits()
        self.nbytes = 0
        """Of the inputs of all requests that are held."""
        self.refused = 0
        """How many were not taken."""
        self._held: dict[Ticket, _Held] = {}
        self._lines: dict[str, _Line] = {}
        self._places: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        """What a request of each model takes, on average."""

    def __len__(self) -> int:
        """Requests that are held."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Requests that are held and do not run yet."""
        return sum(request.started_at is None for request in self._held.values())

    def set_places(self, model: str, places: int) -> None:
        """So many requests of a model fit its devices at once; never more than the limit run."""
        self._places[model] = max(1, min(places, self.limits.running))
        if model in self._lines:
            self._lines[model].places = self._places[model]

    def forget(self, model: str) -> None:
        """A model is gone; what is held of it is not touched."""
        self._places.pop(model, None)
        self._seconds.pop(model, None)

    def arrive(self, ticket: Ticket, model: str, client: Client, nbytes: int) -> Refusal | None:
        """A request comes; returns why it is not taken, or None for one that waits for `start`."""
        line = self._lines.get(model) or _Line(self._places.get(model, self.limits.running))
        refusal = self._refusal(line, model, client, nbytes)
        if refusal is not None:
            self.refused += 1
            return refusal
        self._lines[model] = line
        self._held[ticket] = _Held(model, client, nbytes)
        self.nbytes += nbytes
        line.held[client] += 1
        line.waiting.setdefault(client, deque()).append(ticket)
        return None

    def start(self, now: float) -> list[Ticket]:
        """The requests that run from now on."""
        started: list[Ticket] = []
        for line in self._lines.values():
            while line.waiting and len(line.running) < line.places:
                client, tickets = next(iter(line.waiting.items()))
                ticket = tickets.popleft()
                line.waiting.move_to_end(client)
                if not tickets:
                    del line.waiting[client]
                line.running.add(ticket)
                self._held[ticket].started_at = now
                started.append(ticket)
        return started

    def leave(self, ticket: Ticket, now: float) -> None:
        """A request has ended, or is not waited for any more."""
        request = self._held.pop(ticket, None)
        if request is None:
            return
        self.nbytes -= request.nbytes
        line = self._lines[request.model]
        line.held[request.client] -= 1
        if not line.held[request.client]:
            del line.held[request.client]
        if request.started_at is None:
            tickets = line.waiting[request.client]
            tickets.remove(ticket)
            if not tickets:
                del line.waiting[request.client]
        else:
            line.running.remove(ticket)
            before = self._seconds.get(request.model, now - request.started_at)
            self._seconds[request.model] = before + _WEIGHT * (now - request.started_at - before)
        if not line.requests:
            del self._lines[request.model]

    def _refusal(self, line: _Line, model: str, client: Client, nbytes: int) -> Refusal | None:
        limits, held = self.limits, len(self._held)
        of_client = sum(other.held[client] for other in self._lines.values())
        if held >= limits.requests:
            return self._not_now(line, model, f"{held} requests are held, the most that this master takes")
        if line.requests >= limits.requests_of_a_model:
            return self._not_now(line, model, f"{line.requests} requests of {model} are held, the most of one model")
        if self._held and self.nbytes + nbytes > limits.nbytes:
            what = f"{held} requests with {self.nbytes} bytes are held; one of {nbytes} bytes exceeds the limit"
            return self._not_now(line, model, f"{what} of {limits.nbytes}")
        free = min(limits.requests - held, limits.requests_of_a_model - line.requests)
        if max(of_client, line.held[client]) >= GREED * free:
            what = f"this client has {of_client} requests here, and the {free} places that are left are for others"
            return self._not_now(line, model, what)
        return None

    def _not_now(self, line: _Line, model: str, reason: str) -> Refusal:
        """A request that comes later finds room when a part of those in front of it are through."""
        rounds = max(1.0, line.requests / line.places / 4)
        pause = rounds * self._seconds.get(model, FIRST_GUESS_SECONDS)
        return Refusal(reason, min(max(pause, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS))
