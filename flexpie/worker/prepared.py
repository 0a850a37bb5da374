"""Programs with everything worked out that each request would work out again: slices, shapes, types and lengths.

Regions are for reading; what a request needs of them is slices. On a small device, working these out takes longer than
the copies that they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Assemble, DeviceProgram, Feed, Part, Receive, Release, Run, Send, Step, Value
from flexpie.wire.framing import Buffer, unpack
from flexpie.wire.opaque import Datum
from flexpie.wire.tensors import NUMPY_DTYPES, datum_bytes, payload_bytes, payload_to_arrays
from flexpie.worker.cpu import EngineMeter
from flexpie.worker.engine import Interruption, Session


class Table(Protocol):
    """What steps work on: one request's values, and what it brings along."""

    arrays: dict[int, Datum]
    feeds: Mapping[str, Datum]
    received: Iterator[Buffer]
    sessions: Sequence[Session]
    interruption: Interruption
    meter: EngineMeter


Action = Callable[[Table], None]
"""Does a step; raises what is wrong."""
Cutter = Callable[[Mapping[int, Datum]], memoryview]
"""Yields a part's bytes, contiguous."""


class PreparedProgram:
    """The actions of a program's steps."""

    def __init__(self, program: DeviceProgram) -> None:
        self._program = program  # and with it its steps, whose identities are the keys
        self._actions: dict[int, Action] = {}
        self._cutters: dict[int, tuple[Cutter, ...]] = {}
        for step in program.steps:
            if isinstance(step, Send):
                self._cutters[id(step.parts)] = tuple(_cutter(program.values, part) for part in step.parts)
            else:
                self._actions[id(step)] = _action(program.values, step)

    def action(self, step: Step) -> Action:
        """What a step other than `Send` does."""
        return self._actions.get(id(step)) or _action(self._program.values, step)

    def cutters(self, parts: Sequence[Part]) -> Sequence[Cutter]:
        """What cuts the parts of a `Send`."""
        found = self._cutters.get(id(parts))
        return [_cutter(self._program.values, part) for part in parts] if found is None else found


def _action(values: Sequence[Value], step: Step) -> Action:
    match step:
        case Receive(values=indices):
            return _receive(indices, [values[index] for index in indices])
        case Assemble(value, parts):
            return _assemble(values, value, parts)
        case Run(subgraph, inputs, outputs):
            return _run(values, subgraph, inputs, outputs)
        case Release(values=indices):
            return _release(indices)
        case Feed(value):
            return _feed(value, values[value])
        case _:
            raise ValueError(f"{step} is no step to execute")


def _receive(indices: Sequence[int], values: Sequence[Value]) -> Action:
    if payload_bytes(values) is None:

        def read(table: Table) -> None:
            table.arrays.update(zip(indices, payload_to_arrays(memoryview(next(table.received)), values), strict=True))

        return read
    lengths = [value.nbytes for value in values]
    layout = [(index, NUMPY_DTYPES[value.dtype], value.region.shape)
              for index, value in zip(indices, values, strict=True)]  # fmt: skip

    def view(table: Table) -> None:
        for (index, dtype, shape), piece in zip(layout, unpack(memoryview(next(table.received)), lengths), strict=True):
            array = np.frombuffer(piece, dtype).reshape(shape)
            table.arrays[index] = array if array.flags.aligned else array.copy()

    return view


def _assemble(values: Sequence[Value], index: int, parts: Sequence[Part]) -> Action:
    target = values[index]
    shape, dtype = target.region.shape, NUMPY_DTYPES[target.dtype]
    copies = [
        (part.value, part.region.relative_to(values[part.value].region), part.region.relative_to(target.region))
        for part in parts
    ]

    def assemble(table: Table) -> None:
        arrays = table.arrays
        array = np.empty(shape, dtype)
        for source, taken, put in copies:
            array[put] = arrays[source][taken]
        arrays[index] = array

    return assemble


def _run(values: Sequence[Value], subgraph: int, inputs: Sequence[int], outputs: Sequence[int]) -> Action:
    expected = [(index, None if values[index].opaque else values[index].region.shape) for index in outputs]

    def run(table: Table) -> None:
        arrays = table.arrays
        given = [arrays[index] for index in inputs]
        with table.meter:
            results = table.sessions[subgraph].run(given, table.interruption)
        for (index, shape), array in zip(expected, results, strict=True):
            if shape is not None and array.shape != shape:
                raise FlexPieError(
                    ErrorCode.EXECUTION_FAILED,
                    f"A subgraph yielded {values[index].tensor} with shape {array.shape} instead of {shape}.",
                )
            arrays[index] = array

    return run


def _release(indices: Sequence[int]) -> Action:
    def release(table: Table) -> None:
        for index in indices:
            table.arrays.pop(index, None)

    return release


def _feed(index: int, value: Value) -> Action:
    shape, dtype = value.region.shape, NUMPY_DTYPES[value.dtype]

    def feed(table: Table) -> None:
        array: Any = table.feeds.get(value.tensor)
        if not (value.opaque and value.tensor in table.feeds) and (
            array is None or array.shape != shape or array.dtype != dtype
        ):
            raise FlexPieError(
                ErrorCode.INVALID_INPUT,
                f"The input {value.tensor} must be given with shape {shape} and type {value.dtype.value}.",
            )
        table.arrays[index] = array

    return feed


def _cutter(values: Sequence[Value], part: Part) -> Cutter:
    value, index = values[part.value], part.value
    whole, taken, opaque = part.region == value.region, part.region.relative_to(value.region), value.opaque

    def cut(arrays: Mapping[int, Datum]) -> memoryview:
        array = arrays[index]
        return datum_bytes(array if whole else array[taken], opaque)

    return cut
