"""All devices of a cluster in one process, without sockets: the workers' own state machine and execution.

    cluster = InProcessCluster(programs, master, blobs)         # blobs: {sha256: bytes}, or the folder of the files
    outputs = cluster.infer({"x": array})                       # by name of the graph's outputs, in their order

`programs` are the devices' programs (None for a device that takes no part); `master` is the master's, with `Feed`
steps and `outputs`. Deterministic and single-threaded. Whatever goes wrong raises the `FlexPieError` that the master
would report. ``cluster.sent_bytes`` maps (source, destination) to the payload bytes of the last inference.
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, DeviceProgram
from flexpie.wire.framing import Data, Failure, decode_frame, encode_frame
from flexpie.wire.opaque import Datum
from flexpie.worker.engine import Engine, OnnxRuntimeEngine, Session
from flexpie.worker.events import (
    BatchExecuted,
    CancelArrived,
    DeploymentBuilt,
    DeployRequested,
    EndRequest,
    Event,
    Execute,
    ExecutionFailed,
    FrameArrived,
    Instruction,
    Outcome,
    RefuseDeployment,
    RejectFrame,
    RequestKey,
    RequestStarted,
    SendFailure,
    SendFrame,
)
from flexpie.worker.execution import ValueTable
from flexpie.worker.prepared import PreparedProgram
from flexpie.worker.sessions import load_sessions
from flexpie.worker.state import WorkerState

Blobs = Mapping[str, bytes | memoryview] | str | Path

_DEPLOYMENT = "in-process"


@dataclass
class _Node:
    """One device, or the master."""

    program: DeviceProgram
    sessions: Sequence[Session] = ()
    state: WorkerState = field(default_factory=WorkerState)
    table: ValueTable | None = None
    prepared: PreparedProgram | None = None


class InProcessCluster:
    """A deployment whose devices are objects."""

    def __init__(
        self,
        programs: Sequence[DeviceProgram | None],
        master: DeviceProgram,
        blobs: Blobs,
        engine: Engine | None = None,
    ) -> None:
        """Load every subgraph. Raises as a worker would refuse the package."""
        engine = engine or OnnxRuntimeEngine()
        self._master = master
        self._requests = 0
        self._nodes = {program.device: _Node(program) for program in (master, *filter(None, programs))}
        self.sent_bytes: dict[tuple[int, int], int] = {}
        with tempfile.TemporaryDirectory(prefix="flexpie-") as scratch:
            folder = _folder_of(blobs, Path(scratch))
            for node in self._nodes.values():
                _deploy(node)
                node.prepared = PreparedProgram(node.program)
                node.sessions = load_sessions(node.program, folder, engine)

    def infer(self, feeds: Mapping[str, Datum]) -> dict[str, Datum]:
        """Run one request through all devices; `feeds` and the result are arrays (or opaque values) by tensor name."""
        self._requests += 1
        key = RequestKey(_DEPLOYMENT, self._requests)
        self.sent_bytes = {}
        for node in self._nodes.values():
            node.table = ValueTable(node.program, feeds, prepared=node.prepared)
        try:
            self._run(key)
        finally:
            for node in self._nodes.values():
                node.state.handle(CancelArrived(key, "the inference has ended"))
        table = self._nodes[MASTER].table
        assert table is not None
        values = self._master.values
        return {values[value].tensor: table.arrays[value] for value in self._master.outputs}

    def _run(self, key: RequestKey) -> None:
        events: deque[tuple[int, Event]] = deque([(MASTER, RequestStarted(key, math.inf, 0.0))])
        ended: dict[int, Outcome] = {}
        while events:
            index, event = events.popleft()
            for instruction in self._nodes[index].state.handle(event):
                self._carry_out(index, instruction, events, ended)
        self._check_finished(ended)

    def _carry_out(
        self,
        index: int,
        instruction: Instruction,
        events: deque[tuple[int, Event]],
        ended: dict[int, Outcome],
    ) -> None:
        node = self._nodes[index]
        assert node.table is not None
        match instruction:
            case Execute(key, steps, payloads):
                try:
                    node.table.execute(steps, payloads, node.sessions)
                except FlexPieError as error:
                    events.append((index, ExecutionFailed(key, Failure.of(error))))
                else:
                    events.append((index, BatchExecuted(key, 0.0)))
            case SendFrame(key, exchange, destination, parts):
                # Through the wire's encoding, as between processes.
                frame = decode_frame(encode_frame(*key, 0, Data(exchange, index), node.table.cut(parts)))
                link = (index, destination)
                self.sent_bytes[link] = self.sent_bytes.get(link, 0) + len(frame.payload)
                if destination not in self._nodes:
                    raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"There is no device {destination}.")
                events.append((destination, FrameArrived(key, exchange, index, frame.payload, math.inf, 0.0)))
            case SendFailure(_, failure) | RejectFrame(_, _, failure):
                raise failure.error
            case EndRequest(_, outcome):
                ended[index] = outcome

    def _check_finished(self, ended: Mapping[int, Outcome]) -> None:
        """Raise when a device waits for a message that nobody sent."""
        for index, node in self._nodes.items():
            for request in node.state.requests.values():
                missing = ", ".join(f"{source} (exchange {exchange})" for exchange, source in sorted(request.awaited))
                raise FlexPieError(
                    ErrorCode.CORRUPT_PACKAGE, f"Device {index} waits for ever for a message of device {missing}."
                )
        if MASTER not in ended:
            raise FlexPieError(ErrorCode.INTERNAL, "The master's program did not end.")


def _folder_of(blobs: Blobs, scratch: Path) -> Path:
    if not isinstance(blobs, Mapping):
        return Path(blobs)
    for sha256, content in blobs.items():
        (scratch / sha256).write_bytes(content)
    return scratch


def _deploy(node: _Node) -> None:
    for event in (DeployRequested(_DEPLOYMENT, node.program), DeploymentBuilt(_DEPLOYMENT)):
        for instruction in node.state.handle(event):
            if isinstance(instruction, RefuseDeployment):
                raise instruction.failure.error
