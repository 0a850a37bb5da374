"""Whether a program makes sense as a whole, and how much memory it takes."""

from __future__ import annotations

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import (
    Assemble,
    DeviceProgram,
    Feed,
    Part,
    Receive,
    Release,
    Run,
    Send,
)

MAX_STEPS = 1_000_000
"""More steps or values than this are no program."""
MAX_BYTES = 1 << 56
"""What takes more than this fits no machine, nor the messages that tell of it."""


def check_program(program: DeviceProgram) -> None:
    """Raise ``CORRUPT_PACKAGE`` unless every step finds what it needs.

    Afterwards executing the program in any order of arrival touches no value that is missing and no element outside
    of an array.
    """
    if len(program.steps) > MAX_STEPS or len(program.values) > MAX_STEPS:
        raise _corrupt(f"{len(program.steps)} steps over {len(program.values)} values")
    held: set[int] = set()
    messages: set[tuple[int, int]] = set()
    for number, step in enumerate(program.steps):
        try:
            _check_step(program, step, held, messages)
        except (LookupError, ValueError) as error:
            raise _corrupt(f"step {number} ({type(step).__name__}) is wrong: {error}") from error
    if (nbytes := weight_bytes(program) + request_bytes(program)) > MAX_BYTES:
        raise _corrupt(f"it takes {nbytes} bytes")


def weight_bytes(program: DeviceProgram) -> int:
    """Bytes that a program takes while no request runs."""
    return sum(blob.nbytes for subgraph in program.subgraphs for blob in subgraph.weights)


def request_bytes(program: DeviceProgram) -> int:
    """Bytes that a request takes: the largest sum of values held at once."""
    sizes = [value.nbytes for value in program.values]
    held: set[int] = set()
    now = most = 0
    for step in program.steps:
        match step:
            case Receive(values=values) | Run(outputs=values):
                new = set(values) - held
            case Assemble(value=value) | Feed(value=value):
                new = {value} - held
            case Release(values=values):
                gone = held & set(values)
                now -= sum(sizes[value] for value in gone)
                held -= gone
                continue
            case _:
                continue
        held |= new
        now += sum(sizes[value] for value in new)
        most = max(most, now)
    return most


def _check_step(program: DeviceProgram, step: object, held: set[int], messages: set[tuple[int, int]]) -> None:
    match step:
        case Feed(value):
            _define(program, [value], held)
        case Receive(exchange, source, values):
            if (exchange, source) in messages:
                raise ValueError(f"exchange {exchange} has two messages of device {source}")
            messages.add((exchange, source))
            _define(program, values, held)
        case Send(parts=parts):
            for part in parts:
                _check_part(program, part, held)
        case Assemble(value, parts):
            _check_assembly(program, value, parts, held)
            _define(program, [value], held)
        case Run(subgraph, inputs, outputs):
            if subgraph >= len(program.subgraphs):
                raise ValueError(f"there is no subgraph {subgraph}")
            _require(inputs, held)
            _define(program, outputs, held)
        case Release(values):
            _require(values, held)
            held.difference_update(values)
        case _:
            raise ValueError("it is of an unknown kind")


def _define(program: DeviceProgram, values: tuple[int, ...] | list[int], held: set[int]) -> None:
    for value in values:
        if not 0 <= value < len(program.values):
            raise ValueError(f"there is no value {value}")
        held.add(value)


def _require(values: tuple[int, ...], held: set[int]) -> None:
    missing = set(values) - held
    if missing:
        raise ValueError(f"value {min(missing)} is not there")


def _check_part(program: DeviceProgram, part: Part, held: set[int]) -> None:
    _require((part.value,), held)
    value = program.values[part.value]
    inside = len(part.region) == len(value.region) and all(
        outer.start <= inner.start <= inner.stop <= outer.stop
        for inner, outer in zip(part.region, value.region, strict=True)
    )
    if not inside:
        raise ValueError(f"{part.region} is outside of {value.region}")


def _check_assembly(program: DeviceProgram, index: int, parts: tuple[Part, ...], held: set[int]) -> None:
    if not 0 <= index < len(program.values):
        raise ValueError(f"there is no value {index}")
    target = program.values[index]
    for part in parts:
        _check_part(program, part, held)
        if program.values[part.value].dtype is not target.dtype:
            raise ValueError("its parts have another element type")
        if not target.region.contains(part.region) or len(part.region) != len(target.region):
            raise ValueError(f"{part.region} is outside of {target.region}")
    if sum(part.region.size for part in parts) != target.region.size:
        raise ValueError(f"its parts do not cover {target.region}")


def _corrupt(what: str) -> FlexPieError:
    return FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"A program cannot be run: {what}.")
