"""Walks a plan segment by segment, as it will be run: who computes what, holds what, and sends what to whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flexpie.core.exchange import Copy, copies_for
from flexpie.core.footprint import Footprint, owned_at_end, segment_footprints
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.program import MASTER
from flexpie.core.region import Region
from flexpie.planner.cost import Array

_REMEMBERED = 3
"""Walks of one graph, number of devices and kind of boundary."""


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
    copies: tuple[Copy, ...]
    """The exchange in front of the segment."""
    nbytes: Array
    """Shape [n + 1, n + 1]: its bytes from source to destination; index n is the master."""
    passing: tuple[int, ...]
    """Bytes of live tensors that each device holds over the segment though the segment does not read them."""


@dataclass
class Walk:
    """Iterate `visits` to the end, then ask once for `gather` or its copies."""

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
            copies = self._exchange(needs)
            yield Visit(segment, footprints, copies, self.nbytes_of(copies), self._passing(segment, footprints))
            owned = owned_at_end(self.graph, segment.first, segment.stop, segment.scheme, segment.shares)
            for name, regions in owned.items():
                owners = {d: region for d, region in enumerate(regions) if region is not None}
                boxes = {d: [fp.held[name]] for d, fp in enumerate(footprints) if name in fp.held}
                self.holdings[name] = Holding(owners, boxes)

    def gather(self) -> Array:
        """Bytes of the last exchange, which brings the outputs to the master; shape [n + 1, n + 1]."""
        return self.nbytes_of(self.gather_copies())

    def gather_copies(self) -> tuple[Copy, ...]:
        """The last exchange."""
        outputs = dict.fromkeys(name for name in self.graph.outputs if name in self.holdings)
        return self._exchange([(MASTER, name, self.graph.tensors[name].whole) for name in outputs])

    def _exchange(self, needs: Sequence[tuple[int, str, Region]]) -> tuple[Copy, ...]:
        found: list[Copy] = []
        for destination, name, region in needs:
            holding = self.holdings[name]
            boxes = holding.boxes.setdefault(destination, [])
            found += copies_for(name, destination, region, boxes, holding.owners)
            if not any(box.contains(region) for box in boxes):
                boxes.append(region)
        return tuple(found)

    def nbytes_of(self, copies: Sequence[Copy]) -> Array:
        """Bytes of an exchange; shape [n + 1, n + 1]."""
        nbytes = np.zeros((self.devices + 1, self.devices + 1))
        for copy in copies:
            between_devices = MASTER not in (copy.source, copy.destination)
            size = copy.region.size * self.graph.sent_itemsize(copy.tensor, between_devices=between_devices)
            nbytes[copy.source, copy.destination] += size  # MASTER is -1: the last row
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


@dataclass(frozen=True)
class Walked:
    """A walk through a whole plan, for several readers."""

    visits: tuple[Visit, ...]
    gather_copies: tuple[Copy, ...]
    """The last exchange, which brings the outputs to the master."""
    exchanges: tuple[Array, ...]
    """Bytes of the exchange in front of each segment and of the last one; each of shape [n + 1, n + 1]."""


def walked(graph: LayerGraph, devices: int, segments: Sequence[Segment]) -> Walked:
    """The walk through these segments. Planning reads that of the same few plans again and again, so that the last
    ones are remembered with the graph."""
    known: dict[Any, Any] = graph.found.setdefault(("walks", devices, graph.boundary), {})
    key = tuple(segments)
    if key not in known:
        walk = Walk(graph, devices)
        visits = tuple(walk.visits(segments))
        copies = walk.gather_copies()
        for oldest in list(known)[: len(known) + 1 - _REMEMBERED]:
            known.pop(oldest, None)
        known[key] = Walked(visits, copies, (*(visit.nbytes for visit in visits), walk.nbytes_of(copies)))
    found: Walked = known[key]
    return found
