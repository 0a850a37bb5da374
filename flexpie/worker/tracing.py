"""Traces: what this worker does for a request, and when; recorded only while somebody asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from flexpie.core.program import Assemble, DeviceProgram, Receive, Run, Step
from flexpie.wire.framing import Buffer
from flexpie.wire.v1 import trace_pb2
from flexpie.worker.engine import Session
from flexpie.worker.events import FrameArrived, RequestKey, SendFrame
from flexpie.worker.execution import ValueTable

MOST_WAITING = 1000
"""Traces that a listener has not taken yet; those that come then are lost."""

COMPUTING, ASSEMBLING, SENDING, RECEIVING = "computing", "assembling", "sending", "receiving"


def clock() -> float:
    """Seconds of a clock that all processes of this machine share."""
    return time.monotonic_ns() / 1e9


@dataclass
class Trace:
    """One request on this worker."""

    spans: list[trace_pb2.TraceSpan] = field(default_factory=list)

    def note(self, activity: str, what: object, start: float, stop: float, payload_bytes: int = 0) -> None:
        """Something was done. From any thread."""
        self.spans.append(trace_pb2.TraceSpan(
            activity=activity, what=str(what), start=start, stop=stop, payload_bytes=payload_bytes
        ))  # fmt: skip


@dataclass
class TracedTable(ValueTable):
    """A table that notes when each step begins and ends."""

    trace: Trace = field(default_factory=Trace)

    def execute(self, steps: Sequence[Step], payloads: Sequence[Buffer], sessions: Sequence[Session]) -> None:
        """As for any table, step by step."""
        received = iter(payloads)
        for step in steps:
            taken = [next(received)] if isinstance(step, Receive) else []
            start = clock()
            super().execute([step], taken, sessions)
            match step:
                case Run(subgraph):
                    self.trace.note(COMPUTING, self.program.subgraphs[subgraph].name, start, clock())
                case Assemble(value):
                    self.trace.note(ASSEMBLING, self.program.values[value].tensor, start, clock())
                case _:
                    pass  # takes no time


Listener = asyncio.Queue[trace_pb2.RequestTrace | None]
"""None ends it: so does its deployment."""


class Tracer:
    """The traces of a worker that somebody listens to. On the event loop."""

    def __init__(self) -> None:
        self.active = False
        """Whether anything is recorded; where not, nothing else here is called."""
        self._listeners: dict[str, list[Listener]] = {}
        """By deployment."""
        self._traces: dict[RequestKey, Trace] = {}

    @contextmanager
    def listening(self, deployment_id: str) -> Iterator[Listener]:
        """Record the requests of a deployment that begin within the block."""
        queue: Listener = asyncio.Queue()
        self._listeners.setdefault(deployment_id, []).append(queue)
        self.active = True
        try:
            yield queue
        finally:
            self._listeners[deployment_id].remove(queue)
            if not self._listeners[deployment_id]:
                del self._listeners[deployment_id]
            self.active = bool(self._listeners)
            self._traces = {key: trace for key, trace in self._traces.items() if key.deployment_id in self._listeners}

    def frame_arrived(self, event: FrameArrived) -> None:
        """A message came in; the first one begins a trace."""
        if event.key.deployment_id in self._listeners:
            now = clock()
            trace = self._traces.get(event.key)
            if trace is None:
                if len(self._traces) >= MOST_WAITING:  # left by messages that came after their request's end
                    del self._traces[next(iter(self._traces))]
                trace = self._traces[event.key] = Trace()
            trace.note(RECEIVING, event.exchange, now, now, len(event.payload))

    def sent(self, order: SendFrame, start: float, payload_bytes: int) -> None:
        """A message was cut, encoded and handed over."""
        if (trace := self._traces.get(order.key)) is not None:
            trace.note(SENDING, order.exchange, start, clock(), payload_bytes)

    def table(self, key: RequestKey, program: DeviceProgram) -> ValueTable | None:
        """A table for a request that is recorded; None for one that is not."""
        trace = self._traces.get(key)
        return None if trace is None else TracedTable(program, trace=trace)

    def freed(self, deployment_id: str) -> None:
        """A deployment is gone: nothing more will come of it."""
        for queue in self._listeners.get(deployment_id, ()):
            queue.put_nowait(None)

    def ended(self, key: RequestKey, finished: bool) -> None:
        """A request has ended here; traces of finished ones are delivered."""
        trace = self._traces.pop(key, None)
        if trace is None or not finished:
            return
        message = trace_pb2.RequestTrace(request_id=key.request_id, spans=trace.spans)
        for queue in self._listeners.get(key.deployment_id, ()):
            if queue.qsize() < MOST_WAITING:
                queue.put_nowait(message)
