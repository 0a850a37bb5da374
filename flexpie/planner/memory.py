"""What a plan takes of each device's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexpie.core.footprint import Footprint
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.region import Region
from flexpie.planner.walk import Walk


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a device needs for a plan."""

    weights: int
    """Of all its segments; a region of a weight that two segments use counts once."""
    activations: int
    """The most that is live at one time, for one request."""

    @property
    def total(self) -> int:
        """Both together."""
        return self.weights + self.activations


def memory_needs(graph: LayerGraph, segments: Sequence[Segment], devices: int) -> tuple[MemoryNeed, ...]:
    """What each device needs for a plan."""
    weights: list[set[tuple[str, Region]]] = [set() for _ in range(devices)]
    peaks = [0] * devices
    for visit in Walk(graph, devices).visits(segments):
        for device, footprint in enumerate(visit.footprints):
            weights[device].update(footprint.weights.items())
            running = _running_peak(graph, visit.segment, footprint)
            peaks[device] = max(peaks[device], running + visit.passing[device])
    return tuple(
        MemoryNeed(sum(_nbytes(graph, name, region) for name, region in weights[device]), peaks[device])
        for device in range(devices)
    )


def _nbytes(graph: LayerGraph, name: str, region: Region) -> int:
    return region.size * graph.tensors[name].itemsize


def _running_peak(graph: LayerGraph, segment: Segment, footprint: Footprint) -> int:
    """The most bytes of activations that are live while a segment runs, its inputs included.

    Each layer counts as one step: its results exist beside everything that it or a later layer reads.
    """
    kept = set(graph.live_after(segment.stop))
    live = {name: _nbytes(graph, name, region) for name, region in footprint.wanted.items()}
    total = peak = sum(live.values())
    for index in range(segment.first, segment.stop):
        layer = graph.layers[index]
        outside = [name for name in layer.produced if name in footprint.held and graph.last_use(name) > index]
        for name in outside:
            live[name] = _nbytes(graph, name, footprint.held[name])
            total += live[name]
        peak = max(peak, total)
        for name in (*layer.consumed, *outside):
            if name in live and name not in kept and graph.last_use(name) <= index:
                total -= live.pop(name)
    return peak
