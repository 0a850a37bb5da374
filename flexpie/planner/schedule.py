"""A plan as the steps of each end, with their times and bytes: what the lowered programs do, without any array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flexpie.core.cluster import Cluster
from flexpie.core.exchange import Copy
from flexpie.core.graph import LayerGraph
from flexpie.core.messages import Message as Travelling
from flexpie.core.messages import in_receiving_order, lacks_start, message_rounds
from flexpie.core.plan import Segment
from flexpie.core.program import MASTER
from flexpie.core.routes import relayed_ways
from flexpie.core.turns import turn, turns
from flexpie.planner.cost import CostModel, LayerWork
from flexpie.planner.evaluation import segment_works
from flexpie.planner.walk import walked


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


@dataclass(frozen=True, slots=True)
class Part:
    """A device's part of a segment, whose time is not known yet."""

    segment: int
    works: tuple[LayerWork, ...]


Message = Sending | Receiving
ScheduledStep = Message | Computing


@dataclass(frozen=True)
class Turn:
    """A device that answers requests on its own."""

    part: float
    """Of all requests."""
    master: tuple[Message, ...]
    """What the master does for one of them."""


@dataclass(frozen=True)
class Schedule:
    """What every end does for one request, in order."""

    devices: tuple[tuple[ScheduledStep, ...], ...]
    """Empty for a device that takes no part, not even by relaying. Where devices take turns, what each does for a
    request of its own."""
    master: tuple[Message, ...]
    """Empty where devices take turns."""
    segments: int
    """How many the plan has."""
    input_bytes: int = 0
    """That a client sends."""
    output_bytes: int = 0
    """That it is answered."""
    turns: Mapping[int, Turn] = field(default_factory=dict)
    """By index of the device, where devices take turns."""


@dataclass(frozen=True)
class Outline:
    """A schedule without times: they depend on the cost model, and nothing else here does."""

    devices: tuple[tuple[Message | Part, ...], ...]
    master: tuple[Message, ...]
    segments: int
    input_bytes: int
    output_bytes: int
    turns: Mapping[int, Turn] = field(default_factory=dict)

    def timed(self, cost_model: CostModel) -> Schedule:
        """With the times of a cost model, which is asked once for each device, with everything that it computes."""
        devices = tuple(_timed(device, steps, cost_model) for device, steps in enumerate(self.devices))
        return Schedule(devices, self.master, self.segments, self.input_bytes, self.output_bytes, self.turns)


def schedule(graph: LayerGraph, cluster: Cluster, segments: Sequence[Segment], cost_model: CostModel) -> Schedule:
    """What the ends of a cluster do for a plan of these segments, and how long they compute."""
    return outline(graph, cluster, segments).timed(cost_model)


def outline(graph: LayerGraph, cluster: Cluster, segments: Sequence[Segment]) -> Outline:
    """What the ends of a cluster do for a plan of these segments."""
    devices = range(len(cluster.devices))
    if parts := turns(segments):
        each = {device: outline(graph, cluster, turn(segments, device)) for device in parts}
        steps = tuple(each[device].devices[device] if device in each else () for device in devices)
        some = next(iter(each.values()))
        return Outline(steps, (), len(segments), some.input_bytes, some.output_bytes,
                       {device: Turn(part, each[device].master) for device, part in parts.items()})  # fmt: skip
    writer, walk = _Writer(graph, relayed_ways(cluster), len(devices)), walked(graph, len(devices), segments)
    for number, visit in enumerate(walk.visits):
        writer.exchange(visit.copies)
        for device, footprint in enumerate(visit.footprints):
            if footprint.parts:
                works = segment_works(graph, visit.segment, footprint, borders=True)
                writer.steps[device].append(Part(number, tuple(works)))
    writer.exchange(walk.gather_copies)
    writer.start_devices()
    steps = tuple(tuple(writer.steps[device]) for device in devices)
    input_bytes, output_bytes = (
        sum(graph.tensors[name].whole.size * graph.tensors[name].itemsize for name in names)
        for names in (graph.inputs, graph.outputs)
    )
    return Outline(steps, tuple(writer.master), len(segments), input_bytes, output_bytes)


def _timed(device: int, steps: Sequence[Message | Part], cost_model: CostModel) -> tuple[ScheduledStep, ...]:
    works = [work for step in steps if isinstance(step, Part) for work in step.works]
    seconds = iter(cost_model.compute_seconds(device, works) if works else ())
    return tuple(
        Computing(step.segment, math.fsum(itertools.islice(seconds, len(step.works))))
        if isinstance(step, Part)
        else step
        for step in steps
    )


class _Writer:
    """The steps so far."""

    def __init__(self, graph: LayerGraph, relayed: Sequence[Sequence[int]], devices: int) -> None:
        self.steps: list[list[Message | Part]] = [[] for _ in range(devices)]
        self.master: list[Message] = []
        self._graph = graph
        self._relayed = relayed
        self._exchanges = 0

    def exchange(self, copies: Sequence[Copy]) -> None:
        for messages in message_rounds(copies, self._relayed, len(self.steps)):
            for item in messages:
                self._append(item.source, Sending(self._exchanges, item.destination, self._nbytes(item)))
            for item in in_receiving_order(messages, len(self.steps)):
                self._append(item.destination, Receiving(self._exchanges, item.source, self._nbytes(item)))
            self._exchanges += 1

    def start_devices(self) -> None:
        """Devices that would not begin get an empty message."""
        for device, steps in enumerate(self.steps):
            if lacks_start([step.source if isinstance(step, Receiving) else None for step in steps]):
                self.master.insert(0, Sending(self._exchanges, device, 0))
                steps.insert(0, Receiving(self._exchanges, MASTER, 0))
                self._exchanges += 1

    def _append(self, end: int, step: Message) -> None:
        if end == MASTER:
            self.master.append(step)
        else:
            self.steps[end].append(step)

    def _nbytes(self, message: Travelling) -> int:
        between = MASTER not in (message.source, message.destination)
        sizes = (
            region.size * self._graph.sent_itemsize(name, between_devices=between) for name, region in message.boxes
        )
        return sum(sizes)
