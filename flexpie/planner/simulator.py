"""The events of a simulation: ends with a processor and a port each, and the messages between them.

- A processor handles messages at once, one after another, and they hold up what it computes; of several requests with
  something to compute the oldest goes first (as in `flexpie.worker.state`).
- A port sends one message at a time and receives one at a time, in order of arrival; both at once.
- A message takes its bytes over the link's bandwidth, plus the link's latency.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flexpie.core.cluster import Cluster
from flexpie.core.program import MASTER
from flexpie.core.turns import next_turn
from flexpie.planner.cost import MessageCosts
from flexpie.planner.routes import link_between
from flexpie.planner.schedule import Computing, Receiving, Schedule, ScheduledStep, Sending
from flexpie.planner.timeline import Activity, DeviceTime, Span


@dataclass
class _Walker:
    """One request at one end: where it stands in the end's steps."""

    request: int
    steps: tuple[ScheduledStep, ...]
    arrival: int
    """Counts requests at this end; the smaller one computes first."""
    position: int = 0
    mailbox: set[tuple[int, int]] = field(default_factory=set)
    """Exchange and source of messages that no step has taken yet."""

    def executable_stop(self) -> int:
        """Where the steps stop that can be done now; see `flexpie.worker.request.Request.executable_stop`."""
        computes = False
        for index in range(self.position, len(self.steps)):
            match self.steps[index]:
                case Sending():
                    return index
                case Receiving(exchange, source) if (exchange, source) not in self.mailbox:
                    return index if computes else self.position
                case Computing():
                    computes = True
        return len(self.steps)


@dataclass
class _End:
    """A device or the master: its processor and its port."""

    index: int
    send_seconds: float
    receive_seconds: float
    seconds_per_byte: float
    start_seconds: float
    walkers: dict[int, _Walker] = field(default_factory=dict)
    """By request, in flight here."""
    arrivals: int = 0
    waiting: set[int] = field(default_factory=set)
    """Requests with steps to do."""
    walker: _Walker | None = None
    """Whose steps are under way."""
    batch: deque[Computing | None] = field(default_factory=deque)
    """What is left of them; None stands for starting."""
    batch_stop: int = 0
    computing_until: float = 0.0
    """When the processor will have done the first of them."""
    handled_until: float = 0.0
    """When it will have handled every message so far."""
    sends_until: float = 0.0
    """When the port will be free."""
    receives_until: float = 0.0

    def handle(self, now: float, seconds: float) -> float:
        """Let the processor handle a message, at once or after those before it; returns when it has."""
        self.handled_until = max(now, self.handled_until) + seconds
        if self.walker is not None:
            self.computing_until += seconds
        return self.handled_until


class Simulator:
    """Runs requests through a schedule; afterwards what happened is in its public attributes."""

    def __init__(self, schedule: Schedule, cluster: Cluster, costs: MessageCosts, noise: Callable[[], float]) -> None:
        """`noise` gives a factor for each computing and each transfer."""
        self.begun: list[float] = []
        """When each request began, in seconds."""
        self.ended: dict[int, float] = {}
        """When each request was answered."""
        self.spans: list[Span] = []
        devices = range(len(cluster.devices))
        self.times = [[DeviceTime()] * len(devices) for _ in range(schedule.segments + 1)]
        """By segment (one more for the gathering) and device; sums over all requests."""
        self._steps = {**dict(enumerate(schedule.devices)), MASTER: schedule.master}
        self._turns = schedule.turns
        self._parts = {device: turn.part for device, turn in schedule.turns.items()}
        self._taken: dict[int, int] = {}
        """By request in flight: the device whose turn it is."""
        self._ends = {
            end: _End(
                end,
                float(costs.send_seconds[end]),  # MASTER is -1: the last one
                float(costs.receive_seconds[end]),
                float(costs.seconds_per_byte[end]),
                float(costs.start_seconds[end]),
            )
            for end in (MASTER, *devices)
        }
        self._links = {(a, b): link_between(cluster, a, b) for a in self._ends for b in self._ends if a != b}
        self._asking, self._answering = (
            costs.client_seconds + nbytes * costs.client_seconds_per_byte
            for nbytes in (schedule.input_bytes, schedule.output_bytes)
        )
        self._noise = noise
        self._marks: dict[tuple[int, int], float] = {}
        """By request in flight and device: when the device's last segment of it ended, or the request began."""
        self._handled: dict[tuple[int, int], float] = {}
        """Seconds of messages since then."""
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def run(self, requests: int, in_flight: int) -> None:
        """Answer all requests; another one begins whenever one is answered."""
        self._left = requests
        for _ in range(min(in_flight, requests)):
            self._begin()
        while self._events:
            self._now, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), happen))

    # Requests.

    def _begin(self) -> None:
        self._left -= 1
        request = len(self.begun)
        self.begun.append(self._now)
        for end in self._ends:
            self._marks[request, end], self._handled[request, end] = self._now, 0.0
        if self._turns:
            self._taken[request] = next_turn(self._parts, Counter(self._taken.values()))
        master = self._ends[MASTER]
        self._at(self._now + self._asking, lambda: self._advance(master, self._walker(master, request)))

    def _answer(self, request: int) -> None:
        self.ended[request] = self._now
        self._taken.pop(request, None)
        for device in range(len(self.times[0])):
            elapsed = self._now - self._marks[request, device]
            handled = min(elapsed, self._handled[request, device])
            self.times[-1][device] += DeviceTime(0.0, elapsed - handled, handled)
        for end in self._ends:  # what a device still does for it explains no latency
            del self._marks[request, end], self._handled[request, end]
        if self._left:
            self._begin()

    def _walker(self, end: _End, request: int) -> _Walker:
        if request not in end.walkers:
            steps = self._steps[end.index]
            if end.index == MASTER and self._turns:
                steps = self._turns[self._taken[request]].master
            end.walkers[request] = _Walker(request, steps, end.arrivals)
            end.arrivals += 1
        return end.walkers[request]

    def _advance(self, end: _End, walker: _Walker) -> None:
        """Go on as far as possible without computing, and then compute whatever can be."""
        if walker is not end.walker:
            while walker.position < len(walker.steps):
                step = walker.steps[walker.position]
                if not isinstance(step, Sending):
                    break
                self._send(end, walker.request, step)
                walker.position += 1
            if walker.position == len(walker.steps):
                del end.walkers[walker.request]
                if end.index == MASTER:
                    self._at(self._now + self._answering, partial(self._answer, walker.request))
            elif walker.executable_stop() > walker.position:
                end.waiting.add(walker.request)
        if end.walker is None and end.waiting:
            self._start_batch(end)

    # Computing.

    def _start_batch(self, end: _End) -> None:
        walker = min((end.walkers[request] for request in end.waiting), key=lambda item: item.arrival)
        end.waiting.remove(walker.request)
        end.walker, end.batch_stop = walker, walker.executable_stop()
        steps = walker.steps[walker.position : end.batch_stop]
        taken = {(step.exchange, step.source) for step in steps if isinstance(step, Receiving)}
        walker.mailbox -= taken
        computed = [step for step in steps if isinstance(step, Computing)]
        end.batch.extend([None] if taken and computed else ())
        end.batch.extend(computed)
        self._do_next(end)

    def _do_next(self, end: _End) -> None:
        walker = end.walker
        assert walker is not None
        if not end.batch:
            walker.position, end.walker = end.batch_stop, None
            self._advance(end, walker)
            return
        step = end.batch.popleft()
        seconds = end.start_seconds if step is None else step.seconds * self._noise()
        start = max(self._now, end.handled_until)
        end.computing_until = start + seconds
        self._at(end.computing_until, partial(self._done, end, walker.request, step, start, seconds))

    def _done(self, end: _End, request: int, step: Computing | None, start: float, seconds: float) -> None:
        if end.computing_until > self._now:  # messages held it up
            self._at(end.computing_until, partial(self._done, end, request, step, start, seconds))
            return
        if step is None:
            self._record(end.index, Activity.STARTING, None, request, start)
            self._charge(end.index, request, seconds)
        else:
            self._record(end.index, Activity.COMPUTING, step.segment, request, start)
            self._mark(end.index, request, step.segment, seconds)
        self._do_next(end)

    def _mark(self, device: int, request: int, segment: int, computing: float) -> None:
        """A device has ended its part of a segment."""
        if request in self.ended:
            return
        elapsed, handled = self._now - self._marks[request, device], self._handled[request, device]
        self.times[segment][device] += DeviceTime(computing, elapsed - computing - handled, handled)
        self._marks[request, device], self._handled[request, device] = self._now, 0.0

    # Messages.

    def _send(self, end: _End, request: int, step: Sending) -> None:
        seconds = end.send_seconds + step.nbytes * end.seconds_per_byte
        done = end.handle(self._now, seconds)
        self._record(end.index, Activity.SENDING, None, request, done - seconds, done)
        self._charge(end.index, request, seconds)
        self._at(done, partial(self._leave, end, request, step))

    def _leave(self, end: _End, request: int, step: Sending) -> None:
        link = self._links[end.index, step.destination]
        seconds = step.nbytes / link.bandwidth_bytes_per_second * self._noise()
        start = max(self._now, end.sends_until)
        end.sends_until = start + seconds
        depart = partial(self._depart, end.index, request, step, seconds, link.latency_seconds)
        if start > self._now:
            self._at(start, depart)
        else:
            depart()

    def _depart(self, source: int, request: int, step: Sending, seconds: float, latency: float) -> None:
        end = self._ends[step.destination]
        end.receives_until = max(self._now + latency, end.receives_until) + seconds
        self._record(source, Activity.TRANSFERRING, None, request, self._now, end.receives_until)
        self._at(end.receives_until, partial(self._arrive, end, source, request, step))

    def _arrive(self, end: _End, source: int, request: int, step: Sending) -> None:
        seconds = end.receive_seconds + step.nbytes * end.seconds_per_byte
        done = end.handle(self._now, seconds)
        self._record(end.index, Activity.RECEIVING, None, request, done - seconds, done)
        self._charge(end.index, request, seconds)
        self._at(done, partial(self._take, end, source, request, step.exchange))

    def _take(self, end: _End, source: int, request: int, exchange: int) -> None:
        walker = self._walker(end, request)
        walker.mailbox.add((exchange, source))
        self._advance(end, walker)

    # What happened.

    def _charge(self, end: int, request: int, seconds: float) -> None:
        if (request, end) in self._handled:
            self._handled[request, end] += seconds

    def _record(
        self, end: int, activity: Activity, segment: int | None, request: int, start: float, stop: float | None = None
    ) -> None:
        self.spans.append(Span(end, activity, segment, request, start, self._now if stop is None else stop))
