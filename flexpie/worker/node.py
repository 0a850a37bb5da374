"""A running worker, without its server: carries out what the state decides.

Everything here runs on the event loop, but for the compute thread and the one that builds sessions.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, Part
from flexpie.security.credentials import Credentials
from flexpie.wire.framing import Data, Failure, encode_frame
from flexpie.wire.limits import MAX_TIMEOUT_SECONDS, ChannelOptions
from flexpie.wire.outbox import Writing
from flexpie.worker.building import Builder, Resources
from flexpie.worker.compute import ComputeThread
from flexpie.worker.cpu import CpuSeconds, EngineMeter, read_cpu
from flexpie.worker.engine import Engine, Session
from flexpie.worker.events import (
    BatchExecuted,
    BuildDeployment,
    ConfirmDeployment,
    DeployRequested,
    EndRequest,
    Event,
    Execute,
    ExecutionFailed,
    FailureArrived,
    FrameArrived,
    FreeDeployment,
    Instruction,
    Leave,
    MasterConnected,
    MasterLost,
    Outcome,
    RefuseDeployment,
    RejectFrame,
    RequestKey,
    SendFailure,
    SendFrame,
    TimePassed,
    UndeployRequested,
)
from flexpie.worker.execution import ValueTable
from flexpie.worker.peer_watch import PeerWatches
from flexpie.worker.samples import Samples
from flexpie.worker.state import WorkerState
from flexpie.worker.store import Store
from flexpie.worker.tracing import Tracer, clock

JOIN_SECONDS = 5.0
"""How long the compute thread may take to end its batch when the worker leaves."""

_log = logging.getLogger(__name__)


class WorkerNode:
    """The state, and everything that it gives orders to."""

    def __init__(
        self,
        state: WorkerState,
        store: Store,
        engine: Engine,
        options: ChannelOptions,
        credentials: Credentials | None = None,
    ) -> None:
        self.state = state
        self.store = store
        self.left = asyncio.Event()
        """Set when a draining worker has nothing more to do."""
        self.resources: dict[str, Resources] = {}
        """By deployment."""
        self.tracer = Tracer()
        self.samples = Samples()
        """What some requests took, for the master."""
        self._loop = asyncio.get_running_loop()
        self.peers = PeerWatches(options, credentials)
        """Whether other workers are there."""
        self._builder = Builder(store, engine, options, self.peers, self.handle, credentials)
        self._compute = ComputeThread(self._loop, self.handle)
        self._meter = EngineMeter()
        self._tables: dict[RequestKey, ValueTable] = {}
        self._events: deque[Event] = deque()
        self._handling = False
        self._timer: asyncio.Handle | None = None
        self._rings_at = math.inf
        """When the timer rings; uvloop's own do not tell where that is at once."""
        self._masters: dict[str, Writing] = {}
        self._streams: dict[int, Writing] = {}
        self._deploying: dict[str, _Deploying] = {}

    @property
    def disk(self) -> Executor:
        """The one thread that uses the store."""
        return self._builder.disk

    @property
    def tensors(self) -> int:
        """Values and messages that are held for requests."""
        mailboxes = sum(len(request.mailbox) for request in self.state.requests.values())
        return mailboxes + sum(len(table.arrays) for table in self._tables.values())

    def handle(self, event: Event) -> None:
        """Take in an event and carry out what follows. Events that arise meanwhile wait for their turn."""
        if isinstance(event, FrameArrived):
            self.samples.arrived(event)
            if self.tracer.active:
                self.tracer.frame_arrived(event)
        elif isinstance(event, BatchExecuted):
            self.samples.computed(event)
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                for instruction in self.state.handle(self._events.popleft()):
                    self._carry_out(instruction)
        finally:
            self._handling = False
        if self.state.deadlines_changed:
            self.state.deadlines_changed = False
            self._set_timer()

    def cpu(self) -> CpuSeconds:
        """What the process has used of the processor. From the event loop's thread."""
        return read_cpu(self._meter, self._compute.ident)

    def time(self) -> float:
        """The clock of events, in seconds."""
        return self._loop.time()

    def deadline_after(self, timeout_milliseconds: int) -> float:
        """The deadline that a frame's timeout means now."""
        seconds = timeout_milliseconds / 1000 if timeout_milliseconds else MAX_TIMEOUT_SECONDS
        return self._loop.time() + min(seconds, MAX_TIMEOUT_SECONDS)

    async def deploy(
        self, event: DeployRequested, addresses: Mapping[int, str], *, in_background: bool = False
    ) -> Resources:
        """Build a deployment; returns what it holds when it is ready. Raises what it is refused with.

        `addresses` are those of the peers that its program sends to, by index. `in_background`: nobody waits for it.
        """
        if event.deployment_id in self._deploying:
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"The deployment {event.deployment_id} is being built.")
        deploying = self._deploying[event.deployment_id] = _Deploying(
            addresses, in_background, self._loop.create_future()
        )
        try:
            self.handle(event)
            if event.master_id and event.master_id not in self._masters:  # it may never come: this is no lasting claim
                self.handle(MasterLost(event.master_id, self.time()))
            await deploying.answer
            if event.deployment_id not in self.resources:  # ended again in the meantime
                raise _ended(event.deployment_id)
            return self.resources[event.deployment_id]
        except asyncio.CancelledError:
            self.handle(UndeployRequested(event.deployment_id))
            raise
        finally:
            del self._deploying[event.deployment_id]

    def add_stream(self, number: int, stream: Writing, master_id: str | None) -> None:
        """Somebody opened a data stream; `master_id` is None for a worker's."""
        self._streams[number] = stream
        if master_id is not None:
            self._masters[master_id] = stream
            self.handle(MasterConnected(master_id))

    def remove_stream(self, number: int, master_id: str | None) -> None:
        """A data stream ended."""
        stream = self._streams.pop(number)
        if master_id is not None and self._masters.get(master_id) is stream:
            del self._masters[master_id]
            self.handle(MasterLost(master_id, self.time()))

    async def close(self) -> None:
        """Give everything back."""
        if self._timer is not None:
            self._timer.cancel()
        for deployment_id in list(self.resources):
            self._free(deployment_id)
        for table in self._tables.values():
            table.discard()
        await self._builder.close()
        await self.peers.close()
        self._compute.stop()
        await self._loop.run_in_executor(None, self._compute.join, JOIN_SECONDS)

    # Carrying out.

    def _carry_out(self, instruction: Instruction) -> None:
        try:
            self._dispatch(instruction)
        except Exception:  # the others must be carried out all the same
            _log.exception("defect while carrying out %s", type(instruction).__name__)

    def _dispatch(self, instruction: Instruction) -> None:
        match instruction:
            case Execute():
                self._execute(instruction)
            case SendFrame():
                self._send_frame(instruction)
            case EndRequest(key, outcome, reason):
                self._end(key, outcome, reason)
            case SendFailure(key, failure):
                self._send_failure(key, failure)
            case RejectFrame(origin, key, failure):
                stream = self._streams.get(origin)
                if stream is not None:
                    self._try_send(stream, encode_frame(*key, 0, failure))
            case BuildDeployment(deployment_id):
                wanted, deployment = self._deploying[deployment_id], self.state.deployments[deployment_id]
                resources = self._builder.start(deployment, wanted.addresses, wanted.in_background)
                self.resources[deployment_id] = resources
            case ConfirmDeployment(deployment_id):
                _log.info("deployment ready deployment=%s", deployment_id)
                self._answer(deployment_id, None)
            case RefuseDeployment(deployment_id, failure):
                _log.warning("deployment refused deployment=%s code=%s: %s",
                             deployment_id, failure.code.value, failure.message)  # fmt: skip
                self._answer(deployment_id, failure.error)
            case FreeDeployment(deployment_id):
                self._free(deployment_id)
            case Leave():
                self.left.set()

    def _execute(self, batch: Execute) -> None:
        resources = self.resources[batch.key.deployment_id]
        table = self._tables.get(batch.key)
        if table is None:
            traced = self.tracer.table(batch.key, resources.program) if self.tracer.active else None
            table = self._tables[batch.key] = traced or ValueTable(resources.program)
            table.prepared, table.meter = resources.prepared, self._meter
        self._compute.submit(_job(batch, table, resources.sessions))

    def _send_frame(self, order: SendFrame) -> None:
        try:
            self._send(order)
        except FlexPieError as error:
            self._events.append(FailureArrived(order.key, Failure.of(error)))
        except Exception as error:  # nobody else would tell those who wait for it
            _log.exception("defect while sending %s", order.key)
            failure = Failure(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
            self._events.append(FailureArrived(order.key, failure))

    def _send(self, order: SendFrame) -> None:
        resources = self.resources[order.key.deployment_id]
        content = Data(order.exchange, resources.program.device)
        start = clock() if self.tracer.active else 0.0
        parts = self._cut(order.key, order.parts)
        message = encode_frame(*order.key, self._timeout(order.deadline), content, parts)
        if order.destination == MASTER:
            self._master_of(order.key.deployment_id).put(message)
        else:
            resources.links[order.destination].send(message)
        nbytes = sum(map(len, parts))
        resources.bytes_sent += nbytes
        self.samples.sent(order, nbytes)
        if self.tracer.active:
            self.tracer.sent(order, start, nbytes)

    def _cut(self, key: RequestKey, parts: Sequence[Part]) -> list[memoryview]:
        table = self._tables.get(key)
        return table.cut(parts) if table is not None else []

    def _send_failure(self, key: RequestKey, failure: Failure) -> None:
        try:
            self._master_of(key.deployment_id).put(encode_frame(*key, 0, failure))
        except FlexPieError as error:
            _log.warning("failure not reported %s: %s", key, error.message)

    def _try_send(self, stream: Writing, message: bytes) -> None:
        try:
            stream.put(message)
        except FlexPieError as error:
            _log.warning("answer lost: %s", error.message)

    def _end(self, key: RequestKey, outcome: Outcome, reason: str) -> None:
        table = self._tables.pop(key, None)
        if table is not None:
            table.discard()
        self.samples.ended(key, outcome is Outcome.FINISHED)
        if self.tracer.active:
            self.tracer.ended(key, outcome is Outcome.FINISHED)
        level = {Outcome.FINISHED: logging.DEBUG, Outcome.CANCELLED: logging.INFO}.get(outcome, logging.WARNING)
        _log.log(level, "request %s %s%s", outcome.value, key, f": {reason}" if reason else "")

    def _free(self, deployment_id: str) -> None:
        self.tracer.freed(deployment_id)
        resources = self.resources.pop(deployment_id, None)
        if resources is not None:
            self._builder.free(deployment_id, resources)
            _log.info("deployment freed deployment=%s", deployment_id)
            # Who waits for a refused deployment gets the reason afterwards; who waits for one that was ended, this.
            self._loop.call_soon(self._answer, deployment_id, _ended(deployment_id))

    def _answer(self, deployment_id: str, error: FlexPieError | None) -> None:
        deploying = self._deploying.get(deployment_id)
        if deploying is None or deploying.answer.done():
            return
        if error is None:
            deploying.answer.set_result(None)
        else:
            deploying.answer.set_exception(error)

    def _master_of(self, deployment_id: str) -> Writing:
        stream = self._masters.get(self.state.deployments[deployment_id].master_id)
        if stream is None:
            raise FlexPieError(ErrorCode.DEVICE_UNREACHABLE, "The master is not connected.")
        return stream

    def _timeout(self, deadline: float) -> int:
        """Time left in milliseconds, as a frame carries it: at least 1, as 0 is no deadline."""
        return max(1, math.ceil((deadline - self._loop.time()) * 1000))

    def _set_timer(self) -> None:
        wake_at = self.state.wake_at()
        if self._timer is not None:
            if wake_at is not None and self._rings_at <= wake_at:
                return  # it rings early at worst, and is set anew then
            self._timer.cancel()
            self._timer = None
        if wake_at is not None:
            self._timer, self._rings_at = self._loop.call_at(wake_at, self._ring), wake_at

    def _ring(self) -> None:
        self._timer, self.state.deadlines_changed = None, True  # whatever it rang for, the next one is to be found
        self.handle(TimePassed(self._loop.time()))


@dataclass
class _Deploying:
    """A deployment that somebody waits for."""

    addresses: Mapping[int, str]
    in_background: bool
    answer: asyncio.Future[None]


def _ended(deployment_id: str) -> FlexPieError:
    return FlexPieError(ErrorCode.CANCELLED, f"The deployment {deployment_id} was ended while it was built.")


def _job(batch: Execute, table: ValueTable, sessions: Sequence[Session]) -> Callable[[], Event]:
    """What the compute thread does for a batch."""

    def execute() -> Event:
        started = time.monotonic()
        try:
            table.execute(batch.steps, batch.payloads, sessions)
        except FlexPieError as error:
            return ExecutionFailed(batch.key, Failure.of(error))
        except Exception as error:
            _log.exception("defect while computing %s", batch.key)
            return ExecutionFailed(batch.key, Failure(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))
        return BatchExecuted(batch.key, time.monotonic() - started)

    return execute
