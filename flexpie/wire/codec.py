"""Core types as protobuf messages: one `x_to_proto` and one `x_from_proto` each.

`x_from_proto` raises ``CORRUPT_PACKAGE`` for a message that stands for no value of the core type. Whether a program
makes sense as a whole is not asked here.
"""

from __future__ import annotations

import re

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import (
    MASTER,
    Assemble,
    BlobRef,
    DeviceProgram,
    Part,
    Receive,
    Release,
    Run,
    Send,
    Step,
    SubgraphRef,
    Value,
)
from flexpie.core.region import Interval, Region
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.wire.v1 import master_pb2, program_pb2

_SHA256 = re.compile("[0-9a-f]{64}")


def region_to_proto(region: Region) -> program_pb2.Region:
    """One interval per axis."""
    return program_pb2.Region(intervals=[program_pb2.Interval(start=start, stop=stop) for start, stop in region])


def region_from_proto(message: program_pb2.Region) -> Region:
    """Raises ``CORRUPT_PACKAGE`` for bounds that are negative or in the wrong order."""
    for interval in message.intervals:
        if not 0 <= interval.start <= interval.stop:
            raise _corrupt(f"a region with the bounds {interval.start}:{interval.stop}")
    return Region(Interval(interval.start, interval.stop) for interval in message.intervals)


def value_to_proto(value: Value) -> program_pb2.Value:
    """The element type travels by name."""
    return program_pb2.Value(
        tensor=value.tensor, region=region_to_proto(value.region), dtype=value.dtype.value, opaque=value.opaque
    )


def value_from_proto(message: program_pb2.Value) -> Value:
    """Raises ``CORRUPT_PACKAGE`` for an unknown element type, and for an opaque value that has axes."""
    if message.opaque and message.region.intervals:
        raise _corrupt(f"the value {message.tensor[:80]!r}, which is opaque but has axes")
    region = region_from_proto(message.region)
    return Value(message.tensor, region, dtype_from_name(message.dtype), message.opaque)


def dtype_from_name(name: str) -> ElementType:
    """The element type with this name; raises ``CORRUPT_PACKAGE`` when there is none."""
    try:
        return ElementType(name)
    except ValueError:
        raise _corrupt(f"the unknown element type {name!r}") from None


def part_to_proto(part: Part) -> program_pb2.Part:
    """A value's index and a region."""
    return program_pb2.Part(value=part.value, region=region_to_proto(part.region))


def part_from_proto(message: program_pb2.Part) -> Part:
    """The reverse of `part_to_proto`."""
    return Part(message.value, region_from_proto(message.region))


def step_to_proto(step: Step) -> program_pb2.Step:
    """Raises ``ValueError`` for `Feed`: the master keeps its program for itself."""
    match step:
        case Send(exchange, destination, parts):
            encoded = [part_to_proto(part) for part in parts]
            send = program_pb2.Send(exchange=exchange, destination=destination, parts=encoded)
            return program_pb2.Step(send=send)
        case Receive(exchange, source, values):
            receive = program_pb2.Receive(exchange=exchange, source=source, values=values)
            return program_pb2.Step(receive=receive)
        case Assemble(value, parts):
            encoded = [part_to_proto(part) for part in parts]
            return program_pb2.Step(assemble=program_pb2.Assemble(value=value, parts=encoded))
        case Run(subgraph, inputs, outputs):
            return program_pb2.Step(run=program_pb2.Run(subgraph=subgraph, inputs=inputs, outputs=outputs))
        case Release(values):
            return program_pb2.Step(release=program_pb2.Release(values=values))
        case _:
            raise ValueError(f"{step} does not travel")


def step_from_proto(message: program_pb2.Step) -> Step:
    """Raises ``CORRUPT_PACKAGE`` for an empty step, or one that this version does not know."""
    match message.WhichOneof("step"):
        case "send":
            send = message.send
            parts = tuple(part_from_proto(part) for part in send.parts)
            return Send(send.exchange, _device(send.destination), parts)
        case "receive":
            receive = message.receive
            return Receive(receive.exchange, _device(receive.source), tuple(receive.values))
        case "assemble":
            parts = tuple(part_from_proto(part) for part in message.assemble.parts)
            return Assemble(message.assemble.value, parts)
        case "run":
            run = message.run
            return Run(run.subgraph, tuple(run.inputs), tuple(run.outputs))
        case "release":
            return Release(tuple(message.release.values))
        case _:
            raise _corrupt("an empty or unknown step")


def blob_to_proto(blob: BlobRef) -> program_pb2.BlobRef:
    """Hash and size."""
    return program_pb2.BlobRef(sha256=blob.sha256, nbytes=blob.nbytes)


def blob_from_proto(message: program_pb2.BlobRef) -> BlobRef:
    """Raises ``CORRUPT_PACKAGE`` for anything but a lower-case SHA-256: it becomes a file name."""
    if not _SHA256.fullmatch(message.sha256):
        raise _corrupt(f"{message.sha256[:80]!r} as a SHA-256")
    return BlobRef(message.sha256, message.nbytes)


def subgraph_to_proto(subgraph: SubgraphRef) -> program_pb2.SubgraphRef:
    """The model's blob and its weights'."""
    return program_pb2.SubgraphRef(
        name=subgraph.name,
        model=blob_to_proto(subgraph.model),
        weights=[blob_to_proto(weight) for weight in subgraph.weights],
    )


def subgraph_from_proto(message: program_pb2.SubgraphRef) -> SubgraphRef:
    """The reverse of `subgraph_to_proto`."""
    weights = tuple(blob_from_proto(weight) for weight in message.weights)
    return SubgraphRef(message.name, blob_from_proto(message.model), weights)


def program_to_proto(program: DeviceProgram) -> program_pb2.DeviceProgram:
    """A worker's program; raises ``ValueError`` for the master's."""
    if program.device == MASTER or program.outputs:
        raise ValueError("the master's program does not travel")
    return program_pb2.DeviceProgram(
        device=program.device,
        values=[value_to_proto(value) for value in program.values],
        steps=[step_to_proto(step) for step in program.steps],
        subgraphs=[subgraph_to_proto(subgraph) for subgraph in program.subgraphs],
    )


def program_from_proto(message: program_pb2.DeviceProgram) -> DeviceProgram:
    """The reverse of `program_to_proto`; raises ``CORRUPT_PACKAGE`` for the master's program as well."""
    if message.device < 0:
        raise _corrupt(f"the device index {message.device}")
    return DeviceProgram(
        device=message.device,
        values=tuple(value_from_proto(value) for value in message.values),
        steps=tuple(step_from_proto(step) for step in message.steps),
        subgraphs=tuple(subgraph_from_proto(subgraph) for subgraph in message.subgraphs),
    )


def tensor_to_proto(spec: TensorSpec) -> master_pb2.TensorInfo:
    """Name, shape and element type."""
    return master_pb2.TensorInfo(name=spec.name, shape=spec.shape, dtype=spec.dtype.value)


def tensor_from_proto(message: master_pb2.TensorInfo) -> TensorSpec:
    """Raises ``CORRUPT_PACKAGE`` for an unknown element type or a negative length."""
    if any(length < 0 for length in message.shape):
        raise _corrupt(f"a tensor of shape {tuple(message.shape)}")
    return TensorSpec(message.name, tuple(message.shape), dtype_from_name(message.dtype))


def _device(index: int) -> int:
    if index < MASTER:
        raise _corrupt(f"the device index {index}")
    return index


def _corrupt(what: str) -> FlexPieError:
    return FlexPieError(
        ErrorCode.CORRUPT_PACKAGE, f"A package holds {what}.", "Run the same version of FlexPie everywhere."
    )
