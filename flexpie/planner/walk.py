"""Walks a plan segment by segment, as it will be run: who computes what, holds what, and sends what to whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.exchange import copies_for
from flexpie.core.footprint import Footprint, owned_at_end, segment_footprints
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.program import MASTER
from flexpie.core.region import Region
from flexpie.planner.cost import Array


@dataclass
class Holding:
    """Where a live tensor is."""

    owners: Mapping[int, Region]
    """Who sends it; `MASTER` for the model's inputs."""
    boxes: dict[int, list[Region]] = field(default_factory=dict)
    """What each device holds: what it computed, and what it received in earlier exchanges."""


@dataclass(frozen=True)
class Visit:
    """One segment of a plan."""

    segment: Segment
    footprints: tuple[Footprint, ...]
    """Per device."""
    nbytes: Array
    """Shape [n + 1, n + 1]: bytes from source to destination in front of the segment; index n is the master."""
    passing: tuple[int, ...]
    """Bytes of live tensors that each device holds over the segment though the segment does not read them."""


@dataclass
class Walk:
    """Iterate `visits` to the end, then ask for `gather`."""

    graph: LayerGraph
    devices: int
    holdings: dict[str, Holding] = field(init=False)

    def __post_init__(self) -> None:
        whole = {name: self.graph.tensors[name].whole for name in self.graph.inputs}
        self.holdings = {name: Holding({MASTER: region}, {MASTER: [region]}) for name, region in whole.items()}

    def visits(self, segments: Sequence[Segment]) -> Iterator[Visit]:
        """The segments, in order."""
        for segment in segments:
            footprints = segment_footprints(self.graph, segment.first, segment.stop, segment.scheme, segment.shares)
            needs = [(d, t, region) for d, fp in enumerate(footprints) for t, region in fp.wanted.items()]
            nbytes = self._exchange(needs)
            yield Visit(segment, footprints, nbytes, self._passing(segment, footprints))
            owned = owned_at_end(self.graph, segment.first, segment.stop, segment.scheme, segment.shares)
            for name, regions in owned.items():
                owners = {d: region for d, region in enumerate(regions) if region is not None}
                boxes = {d: [fp.held[name]] for d, fp in enumerate(footprints) if name in fp.held}
                self.holdings[name] = Holding(owners, boxes)

    def gather(self) -> Array:
        """Bytes of the last exchange, which brings the outputs to the master; shape [n + 1, n + 1]."""
        outputs = dict.fromkeys(name for name in self.graph.outputs if name in self.holdings)
        return self._exchange([(MASTER, name, self.graph.tensors[name].whole) for name in outputs])

    def _exchange(self, needs: Sequence[tuple[int, str, Region]]) -> Array:
        nbytes = np.zeros((self.devices + 1, self.devices + 1))
        for destination, name, region in needs:
            holding = self.holdings[name]
            boxes = holding.boxes.setdefault(destination, [])
            itemsize = self.graph.tensors[name].itemsize
            for copy in copies_for(name, destination, region, boxes, holding.owners):
                nbytes[copy.source, destination] += copy.region.size * itemsize  # MASTER is -1: the last row
            if not any(box.contains(region) for box in boxes):
                boxes.append(region)
        return nbytes

    def _passing(self, segment: Segment, footprints: Sequence[Footprint]) -> tuple[int, ...]:
        live = self.graph.live_after(segment.stop)
        totals = [0] * self.devices
        for name in live:
            holding = self.holdings.get(name)
            if holding is None:
                continue
            itemsize = self.graph.tensors[name].itemsize
            for device, footprint in enumerate(footprints):
                if name not in footprint.wanted:
                    totals[device] += itemsize * sum(box.size for box in holding.boxes.get(device, ()))
        return tuple(totals)
