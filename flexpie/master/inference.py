"""The master's part of an inference: cut and send the inputs, gather and assemble the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Assemble, DeviceProgram, Feed, Receive, Release, Run, Send, Step
from flexpie.master.deployment import Deployment
from flexpie.master.request import Request
from flexpie.wire.framing import Data, encode_frame
from flexpie.wire.tensors import NUMPY_DTYPES, Array, cut, datum_bytes, payload_to_arrays


class FrameSender(Protocol):
    """Brings messages to devices; they arrive in the order in which they are sent."""

    def send(self, device: str, message: bytes, payload_bytes: int) -> None:
        """Send a frame. Does not wait; raises FlexPieError when the device is not connected."""


async def run_program(
    deployment: Deployment, request: Request, inputs: Mapping[str, Array], sender: FrameSender
) -> list[Array]:
    """Run the master's program for a request; returns the outputs in their order.

    The outputs may be read-only views of what came in. Raises whatever ends the request (the error of a device, of
    a link, or the deadline), or RunInterruptedError where another run may succeed.
    """
    program = deployment.program
    table: dict[int, Array] = {}
    for step in program.steps:
        await _run_step(step, table, program, deployment, request, inputs, sender)
    return [table[index] for index in program.outputs]


async def _run_step(
    step: Step,
    table: dict[int, Array],
    program: DeviceProgram,
    deployment: Deployment,
    request: Request,
    inputs: Mapping[str, Array],
    sender: FrameSender,
) -> None:
    values = program.values
    match step:
        case Feed(value):
            table[value] = inputs[values[value].tensor]
        case Send():
            _send(step, table, deployment, request, sender)
        case Receive(exchange, source, indices):
            payload = await request.message(exchange, source)
            arrays = payload_to_arrays(payload, [values[index] for index in indices])
            table.update(zip(indices, arrays, strict=True))
        case Assemble():
            table[step.value] = _assemble(step, table, program)
        case Release(indices):
            for index in indices:
                table.pop(index, None)
        case Run():
            raise FlexPieError(ErrorCode.INTERNAL, "The master's program has a step that only workers can do.")


def _send(
    step: Send, table: Mapping[int, Array], deployment: Deployment, request: Request, sender: FrameSender
) -> None:
    values = deployment.program.values
    parts = [
        datum_bytes(cut(table[part.value], values[part.value].region, part.region), values[part.value].opaque)
        for part in step.parts
    ]
    message = encode_frame(
        deployment.id,
        request.run,
        request.timeout_milliseconds,
        Data(step.exchange, deployment.program.device),
        parts,
    )
    nbytes = sum(map(len, parts))
    sender.send(deployment.name_of(step.destination), message, nbytes)
    request.sent(step.exchange, step.destination, nbytes)


def _assemble(step: Assemble, table: Mapping[int, Array], program: DeviceProgram) -> Array:
    target = program.values[step.value]
    array: Array = np.empty(target.region.shape, NUMPY_DTYPES[target.dtype])
    for part in step.parts:
        source = cut(table[part.value], program.values[part.value].region, part.region)
        array[part.region.relative_to(target.region)] = source
    return array
