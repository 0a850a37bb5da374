"""Writes one device's program step by step, keeping track of what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.core.exchange import Copy, subtract_from_all
from flexpie.core.graph import LayerGraph
from flexpie.core.program import Assemble, DeviceProgram, Feed, Part, Receive, Release, Run, Send, Step, Value
from flexpie.core.region import Region


class ProgramBuilder:
    """The program of one device (or of the master) while it is being written."""

    def __init__(self, graph: LayerGraph, device: int) -> None:
        self.device = device
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.subgraphs: list[SubgraphSpec] = []
        self.outputs: list[int] = []
        self._graph = graph
        self._held: dict[str, list[int]] = {}

    @property
    def receives(self) -> bool:
        """Whether some message reaches the device."""
        return any(isinstance(step, Receive) for step in self.steps)

    def held_regions(self, tensor: str) -> list[Region]:
        """Boxes of a tensor that the device holds; they may overlap."""
        return [self.values[index].region for index in self._held.get(tensor, ())]

    def feed(self, tensor: str, region: Region) -> None:
        """Take an input of the request."""
        self.steps.append(Feed(self._new_value(tensor, region)))

    def send(self, exchange: int, destination: int, copies: Sequence[Copy]) -> None:
        """Send boxes that the device holds."""
        parts = tuple(Part(self._holding(copy.tensor, copy.region), copy.region) for copy in copies)
        self.steps.append(Send(exchange, destination, parts))

    def send_first(self, exchange: int, destination: int) -> None:
        """Send an empty message right after the inputs are there."""
        feeds = sum(isinstance(step, Feed) for step in self.steps)
        self.steps.insert(feeds, Send(exchange, destination, ()))

    def receive(self, exchange: int, source: int, copies: Sequence[Copy]) -> None:
        """Wait for boxes from one source."""
        values = tuple(self._new_value(copy.tensor, copy.region) for copy in copies)
        self.steps.append(Receive(exchange, source, values))

    def receive_first(self, exchange: int, source: int) -> None:
        """Wait for an empty message before anything else."""
        self.steps.insert(0, Receive(exchange, source, ()))

    def run(self, spec: SubgraphSpec) -> None:
        """Run a subgraph on assembled inputs."""
        inputs = tuple(self.value_of(tensor, region) for tensor, region in spec.inputs)
        outputs = tuple(self._new_value(tensor, region) for tensor, region in spec.outputs)
        self.steps.append(Run(len(self.subgraphs), inputs, outputs))
        self.subgraphs.append(spec)

    def value_of(self, tensor: str, region: Region) -> int:
        """A value of exactly this region: one that exists, or one assembled from those that do."""
        held = self._held.get(tensor, [])
        for index in held:
            if self.values[index].region == region:
                return index
        parts, missing = [], [region] if not region.is_empty else []
        for index in sorted(held, key=lambda index: -self.values[index].region.size):
            box = self.values[index].region
            parts += [Part(index, common) for piece in missing if not (common := piece.intersect(box)).is_empty]
            missing = subtract_from_all(missing, box)
        assert not missing, f"device {self.device} lacks {missing} of {tensor}"
        target = self._new_value(tensor, region)
        self.steps.append(Assemble(target, tuple(parts)))
        return target

    def finish(self) -> DeviceProgram:
        """The program, with each value released after its last use."""
        return DeviceProgram(self.device, tuple(self.values), self._with_releases(), tuple(self.outputs))

    def _new_value(self, tensor: str, region: Region) -> int:
        spec = self._graph.tensors[tensor]
        self.values.append(Value(tensor, region, spec.dtype, spec.opaque))
        self._held.setdefault(tensor, []).append(len(self.values) - 1)
        return len(self.values) - 1

    def _holding(self, tensor: str, region: Region) -> int:
        for index in self._held.get(tensor, ()):
            if self.values[index].region.contains(region):
                return index
        raise AssertionError(f"device {self.device} does not hold {region} of {tensor}")

    def _with_releases(self) -> tuple[Step, ...]:
        last = {value: at for at, step in enumerate(self.steps) for value in _touched(step)}
        ends: dict[int, list[int]] = {}
        for value, at in last.items():
            if value not in self.outputs:
                ends.setdefault(at, []).append(value)
        steps: list[Step] = []
        for at, step in enumerate(self.steps):
            steps.append(step)
            if at in ends:
                steps.append(Release(tuple(sorted(ends[at]))))
        return tuple(steps)


def _touched(step: Step) -> tuple[int, ...]:
    """The values that a step reads or writes."""
    if isinstance(step, Feed):
        return (step.value,)
    if isinstance(step, Send):
        return tuple(part.value for part in step.parts)
    if isinstance(step, Receive):
        return step.values
    if isinstance(step, Assemble):
        return (step.value, *(part.value for part in step.parts))
    if isinstance(step, Run):
        return (*step.inputs, *step.outputs)
    return step.values
