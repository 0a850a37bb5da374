"""The array side of a worker: executes steps over tables of values. Pure but for the sessions that it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import DeviceProgram, Part, Run, Step, Value
from flexpie.wire.framing import Buffer
from flexpie.wire.opaque import Datum
from flexpie.worker.cpu import EngineMeter
from flexpie.worker.engine import Interruption, Port, Session
from flexpie.worker.prepared import PreparedProgram


@dataclass
class ValueTable:
    """The arrays that a device holds for one request."""

    program: DeviceProgram
    feeds: Mapping[str, Datum] = field(default_factory=dict)
    """Inputs of the request by tensor name: where the master's program runs only."""
    arrays: dict[int, Datum] = field(default_factory=dict)
    """By index of the value; what is opaque may be another kind of value."""
    meter: EngineMeter = field(default_factory=EngineMeter)
    """Counts what the sessions take."""
    interruption: Interruption = field(default_factory=Interruption)
    """Of whatever is computed on this table."""
    prepared: PreparedProgram | None = None
    """Of the program; made where it is not given."""
    received: Iterator[Buffer] = field(default_factory=lambda: iter(()))
    """Payloads of the batch that is being executed; so are its sessions."""
    sessions: Sequence[Session] = ()

    def discard(self) -> None:
        """The request has ended: stop what is being computed for it. From any thread."""
        self.interruption.set()

    def execute(self, steps: Sequence[Step], payloads: Sequence[Buffer], sessions: Sequence[Session]) -> None:
        """Do the steps of one batch; `payloads` has one entry for each `Receive` among them.

        Raises ``EXECUTION_FAILED`` or ``CORRUPT_PACKAGE``. Does nothing more once it is interrupted.
        """
        if self.interruption.is_set:
            return
        prepared = self._prepared()
        self.received, self.sessions = iter(payloads), sessions
        for step in steps:
            prepared.action(step)(self)

    def cut(self, parts: Sequence[Part]) -> list[memoryview]:
        """The bytes of each part, contiguous."""
        return [cut(self.arrays) for cut in self._prepared().cutters(parts)]

    def _prepared(self) -> PreparedProgram:
        if self.prepared is None:
            self.prepared = PreparedProgram(self.program)
        return self.prepared


def check_session(program: DeviceProgram, run: Run, session: Session) -> None:
    """Raise ``CORRUPT_PACKAGE`` unless a session's inputs and outputs are those of the step that runs it.

    Lengths of outputs are looked at when they are there: some operators (a Resize with uneven scales) yield others
    than onnxruntime infers beforehand.
    """
    for ports, indices, lengths in ((session.inputs, run.inputs, True), (session.outputs, run.outputs, False)):
        values = [program.values[index] for index in indices]
        fits = len(ports) == len(values) and all(
            _fits(port, value, lengths) for port, value in zip(ports, values, strict=True)
        )
        if not fits:
            declared = ", ".join(f"{port.name}: {port.dtype.value}{list(port.shape)}" for port in ports)
            given = ", ".join(f"{v.tensor}: {v.dtype.value}{list(v.region.shape)}" for v in values)
            raise FlexPieError(
                ErrorCode.CORRUPT_PACKAGE,
                f"Subgraph {program.subgraphs[run.subgraph].name} has ({declared}) where the program has ({given}).",
            )


def _fits(port: Port, value: Value, lengths: bool) -> bool:
    if value.opaque:
        return True
    if port.dtype is not value.dtype or len(port.shape) != len(value.region):
        return False
    pairs = zip(port.shape, value.region.shape, strict=True)
    return not lengths or all(want in (None, have) for want, have in pairs)
