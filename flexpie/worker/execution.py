"""The array side of a worker: executes steps over tables of values. Pure but for the sessions that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Assemble, DeviceProgram, Feed, Part, Receive, Release, Run, Step, Value
from flexpie.wire.framing import Buffer
from flexpie.wire.opaque import Datum
from flexpie.wire.tensors import NUMPY_DTYPES, Array, cut, datum_bytes, payload_to_arrays
from flexpie.worker.engine import Interruption, Port, Session


@dataclass
class ValueTable:
    """The arrays that a device holds for one request."""

    program: DeviceProgram
    feeds: Mapping[str, Datum] = field(default_factory=dict)
    """Inputs of the request by tensor name: where the master's program runs only."""
    arrays: dict[int, Datum] = field(default_factory=dict)
    """By index of the value; what is opaque may be another kind of value."""
    interruption: Interruption = field(default_factory=Interruption)
    """Of whatever is computed on this table."""

    def discard(self) -> None:
        """The request has ended: stop what is being computed for it. From any thread."""
        self.interruption.set()

    def execute(self, steps: Sequence[Step], payloads: Sequence[Buffer], sessions: Sequence[Session]) -> None:
        """Do the steps of one batch; `payloads` has one entry for each `Receive` among them.

        Raises ``EXECUTION_FAILED`` or ``CORRUPT_PACKAGE``.
        """
        received = iter(payloads)
        for step in steps:
            if self.interruption.is_set:
                return
            match step:
                case Receive(values=values):
                    arrays = payload_to_arrays(
                        memoryview(next(received)), [self.program.values[value] for value in values]
                    )
                    self.arrays.update(zip(values, arrays, strict=True))
                case Assemble(value, parts):
                    self.arrays[value] = self._assemble(value, parts)
                case Run(subgraph, inputs, outputs):
                    self._run(sessions[subgraph], inputs, outputs)
                case Release(values):
                    for value in values:
                        self.arrays.pop(value, None)
                case Feed(value):
                    self.arrays[value] = self._feed(value)

    def cut(self, parts: Sequence[Part]) -> list[memoryview]:
        """The bytes of each part, contiguous."""
        values = self.program.values
        return [
            datum_bytes(cut(self.arrays[part.value], values[part.value].region, part.region), values[part.value].opaque)
            for part in parts
        ]

    def _assemble(self, index: int, parts: Sequence[Part]) -> Array:
        values = self.program.values
        target = values[index]
        array: Array = np.empty(target.region.shape, NUMPY_DTYPES[target.dtype])
        for part in parts:
            source = cut(self.arrays[part.value], values[part.value].region, part.region)
            array[part.region.relative_to(target.region)] = source
        return array

    def _run(self, session: Session, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        results = session.run([self.arrays[value] for value in inputs], self.interruption)
        for value, array in zip(outputs, results, strict=True):
            expected = self.program.values[value]
            if not expected.opaque and array.shape != expected.region.shape:
                raise FlexPieError(
                    ErrorCode.EXECUTION_FAILED,
                    f"A subgraph yielded {expected.tensor} with shape {array.shape} "
                    f"instead of {expected.region.shape}.",
                )
            self.arrays[value] = array

    def _feed(self, index: int) -> Datum:
        value = self.program.values[index]
        array = self.feeds.get(value.tensor)
        if value.opaque and value.tensor in self.feeds:
            return array
        if array is None or array.shape != value.region.shape or array.dtype != NUMPY_DTYPES[value.dtype]:
            raise FlexPieError(
                ErrorCode.INVALID_INPUT,
                f"The input {value.tensor} must be given with shape {value.region.shape} and type {value.dtype.value}.",
            )
        return array


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
