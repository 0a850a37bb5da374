"""Programs: what one device does for a plan, step by step.

A program is a straight list of steps over a table of values. The master runs a program too: it sends the regions
of the inputs that the devices need and receives the regions of the outputs; it has no `Run`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flexpie.core.region import Region
from flexpie.core.tensor import ElementType, item_bytes

MASTER = -1
"""Index that stands for the master among the devices' indices."""


@dataclass(frozen=True, slots=True)
class Value:
    """A region of a tensor that a device holds for a request, as an array of exactly the region's shape."""

    tensor: str
    region: Region
    dtype: ElementType
    opaque: bool = False
    """Whether it is held whole, whatever its shape or kind turns out to be; its region has no axes then."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array; an estimate where it is opaque or holds strings."""
        return self.region.size * item_bytes(self.dtype, self.opaque)


@dataclass(frozen=True, slots=True)
class Part:
    """A region cut out of a value."""

    value: int
    """Index into the program's values."""
    region: Region
    """In the tensor's coordinates, inside the value's region."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Take a request's input into the value table; only the master's program has it, first."""

    value: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send parts, as one message, to one destination."""

    exchange: int
    destination: int
    """Index of a device, or `MASTER`."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for one message, and take its parts into the value table, in the order in which they were sent."""

    exchange: int
    source: int
    """Index of a device, or `MASTER`."""
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Assemble:
    """Build a value by copying parts, which are disjoint and cover it."""

    value: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Run a subgraph."""

    subgraph: int
    """Index into the program's subgraphs."""
    inputs: tuple[int, ...]
    """Values, in the order of the subgraph's inputs."""
    outputs: tuple[int, ...]
    """Values, in the order of the subgraph's outputs."""


@dataclass(frozen=True, slots=True)
class Release:
    """Forget values that no later step reads."""

    values: tuple[int, ...]


Step = Feed | Send | Receive | Assemble | Run | Release


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Content-addressed bytes: a subgraph, or one weight."""

    sha256: str
    """Lower-case hex; also its file name in a worker's store."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class SubgraphRef:
    """An ONNX subgraph of a package and the weights that it refers to."""

    name: str
    model: BlobRef
    """ONNX file whose external data lies in blobs, named by their hash."""
    weights: tuple[BlobRef, ...]


@dataclass(frozen=True)
class DeviceProgram:
    """What one device does for one request."""

    device: int
    """Index of the device in the plan, or `MASTER`."""
    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...] = ()
    """Master only: the values of the graph's outputs, in their order."""
    subgraphs: tuple[SubgraphRef, ...] = ()
    """Empty until the compiler has emitted them."""

    @property
    def peers(self) -> tuple[int, ...]:
        """Devices that it sends to (`MASTER` excluded), ascending."""
        found = {step.destination for step in self.steps if isinstance(step, Send)}
        return tuple(sorted(found - {MASTER}))


def with_device(program: DeviceProgram, device: int) -> DeviceProgram:
    """The master's program for another device than the one that it was made for, where it deals with only one."""

    def moved(step: Step) -> Step:
        match step:
            case Send():
                return replace(step, destination=device)
            case Receive():
                return replace(step, source=device)
        return step

    return replace(program, steps=tuple(map(moved, program.steps)))
