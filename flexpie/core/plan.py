"""Plans: which layers run together, how their results are divided, and what that is predicted to cost."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flexpie.core.boundary import Boundary
from flexpie.core.scheme import Scheme, single


class Objective(enum.Enum):
    """What a plan is to be best at."""

    LATENCY = "latency"
    """The time of one request."""
    THROUGHPUT = "throughput"
    """Requests per second, with many in flight."""
    MEMORY = "memory"
    """The largest part of its memory that any device needs, or its bytes where no device has a limit."""


OBJECTIVES = tuple(item.value for item in Objective)


@dataclass(frozen=True)
class Segment:
    """A run of layers ``[first, stop)`` without exchange inside: NT layers closed by one T layer."""

    first: int
    stop: int
    scheme: Scheme
    """How every tensor that leaves the segment is divided."""
    shares: tuple[float, ...]
    """Weight of each device of the cluster, ≥ 0; a device with 0 takes no part."""


@dataclass(frozen=True)
class SegmentCost:
    """What a segment is predicted to cost."""

    compute_seconds: tuple[float, ...]
    """Per device."""
    exchange_seconds: float
    """Of the exchange in front of the segment, until the last device has its inputs."""
    exchange_bytes: int
    """Sent between devices (or from the master, for the model's inputs) in front of the segment."""


@dataclass(frozen=True)
class Plan:
    """A complete way to run a model on a cluster."""

    graph_digest: str
    """`LayerGraph.signature` of the graph it was made for."""
    devices: tuple[str, ...]
    """Names of the cluster's devices, in the order in which shares are given."""
    segments: tuple[Segment, ...]
    """They follow one another and cover all layers."""
    costs: tuple[SegmentCost, ...] = ()
    """Predicted, one per segment; empty for a plan that was not estimated."""
    gather_seconds: float = 0.0
    """Predicted time of bringing the outputs back to the master."""
    predicted_seconds: float = 0.0
    relayed: tuple[tuple[int, ...], ...] = ()
    """The ways through the cluster's network with devices between: the indices of all devices that a message passes,
    in order. On every other way there is nobody between (`flexpie.core.routes`)."""
    boundary: Boundary = Boundary.FLOAT32
    """What float32 tensors are between devices."""

    @property
    def participants(self) -> tuple[int, ...]:
        """Indices of the devices that have a share in some segment."""
        return tuple(i for i in range(len(self.devices)) if any(segment.shares[i] > 0 for segment in self.segments))

    def on(self, devices: Sequence[str]) -> Plan | None:
        """The same plan on a cluster that has other devices beside those that take part in it, without its costs and
        the ways of its messages; None if one that takes part is missing."""
        if any(self.devices[index] not in devices for index in self.participants):
            return None
        shares_of = {name: index for index, name in enumerate(self.devices)}
        segments = []
        for segment in self.segments:
            shares = tuple(segment.shares[shares_of[name]] if name in shares_of else 0.0 for name in devices)
            only = segment.scheme.device
            scheme = segment.scheme if only is None else single(devices.index(self.devices[only]))
            segments.append(replace(segment, scheme=scheme, shares=shares))
        return Plan(self.graph_digest, tuple(devices), tuple(segments), boundary=self.boundary)
