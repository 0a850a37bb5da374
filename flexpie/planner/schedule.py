"""A plan as the steps of each end, with their times and bytes: what the lowered programs do, without any array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from flexpie.core.cluster import Cluster
from flexpie.core.exchange import Copy
from flexpie.core.graph import LayerGraph
from flexpie.core.messages import Message, in_receiving_order, message_rounds
from flexpie.core.plan import Segment
from flexpie.core.program import MASTER
from flexpie.core.routes import relayed_ways
from flexpie.planner.cost import CostModel, LayerWork
from flexpie.planner.evaluation import segment_works
from flexpie.planner.walk import Walk


@dataclass(frozen=True, slots=True)
class Sending:
    """Send a message; nobody waits for its arrival here."""

    exchange: int
    destination: int
    """Index of a device, or `MASTER`."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class Receiving:
    """Wait for a message."""

    exchange: int
    source: int
    """Index of a device, or `MASTER`."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class Computing:
    """Run the device's part of a segment."""

    segment: int
    seconds: float


ScheduledStep = Sending | Receiving | Computing


@dataclass(frozen=True)
class Schedule:
    """What every end does for one request, in order."""

    devices: tuple[tuple[ScheduledStep, ...], ...]
    """Empty for a device that takes no part, not even by relaying."""
    master: tuple[ScheduledStep, ...]
    segments: int
    """How many the plan has."""


@dataclass(frozen=True)
class _Part:
    """A device's part of a segment."""

    place: int
    """Of its step among the device's."""
    segment: int
    works: list[LayerWork]


@dataclass
class _Writer:
    graph: LayerGraph
    cluster: Cluster
    steps: dict[int, list[ScheduledStep]] = field(init=False)
    """By device; `MASTER` too."""
    relayed: tuple[tuple[int, ...], ...] = field(init=False)
    exchanges: int = 0

    def __post_init__(self) -> None:
        self.relayed = relayed_ways(self.cluster)
        self.steps = {end: [] for end in (MASTER, *range(len(self.cluster.devices)))}

    def exchange(self, copies: Sequence[Copy]) -> None:
        devices = len(self.cluster.devices)
        for messages in message_rounds(copies, self.relayed, devices):
            for item in messages:
                self.steps[item.source].append(Sending(self.exchanges, item.destination, self._nbytes(item)))
            for item in in_receiving_order(messages, devices):
                self.steps[item.destination].append(Receiving(self.exchanges, item.source, self._nbytes(item)))
            self.exchanges += 1

    def start_silent_devices(self) -> None:
        """A device that would get no message from anybody gets an empty one."""
        for end, steps in self.steps.items():
            if end != MASTER and steps and not any(isinstance(step, Receiving) for step in steps):
                self.steps[MASTER].insert(0, Sending(self.exchanges, end, 0))
                steps.insert(0, Receiving(self.exchanges, MASTER, 0))
                self.exchanges += 1

    def _nbytes(self, message: Message) -> int:
        return sum(region.size * self.graph.tensors[name].itemsize for name, region in message.boxes)


def schedule(graph: LayerGraph, cluster: Cluster, segments: Sequence[Segment], cost_model: CostModel) -> Schedule:
    """What the ends of a cluster do for a plan of these segments.

    Each device is asked for its times once, with everything that it computes.
    """
    devices = len(cluster.devices)
    writer, walk = _Writer(graph, cluster), Walk(graph, devices)
    parts: list[list[_Part]] = [[] for _ in range(devices)]
    for number, visit in enumerate(walk.visits(segments)):
        writer.exchange(visit.copies)
        for device, footprint in enumerate(visit.footprints):
            if footprint.parts:
                steps = writer.steps[device]
                parts[device].append(_Part(len(steps), number, segment_works(graph, visit.segment, footprint)))
                steps.append(Computing(number, 0.0))
    writer.exchange(walk.gather_copies())
    for device, found in enumerate(parts):
        seconds = iter(cost_model.compute_seconds(device, [work for part in found for work in part.works]))
        for part in found:
            own = math.fsum(itertools.islice(seconds, len(part.works)))
            writer.steps[device][part.place] = Computing(part.segment, own)
    writer.start_silent_devices()
    return Schedule(
        tuple(tuple(writer.steps[device]) for device in range(devices)), tuple(writer.steps[MASTER]), len(segments)
    )
