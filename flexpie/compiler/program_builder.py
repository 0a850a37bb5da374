"""Writes one device's program step by step, keeping track of what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.core.exchange import subtract_from_all
from flexpie.core.messages import Box, Message, lacks_start
from flexpie.core.program import Assemble, DeviceProgram, Feed, Part, Receive, Release, Run, Send, Step, Value
from flexpie.core.region import Region
from flexpie.core.tensor import TensorSpec


class ProgramBuilder:
    """The program of one device (or of the master) while it is being written."""

    def __init__(self, tensors: Mapping[str, TensorSpec], device: int) -> None:
        """`tensors` are all that the device may hold, by name."""
        self.device = device
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.subgraphs: list[SubgraphSpec] = []
        self.outputs: list[int] = []
        self._tensors = tensors
        self._held: dict[str, list[int]] = {}
        """Values by tensor: what the device computes with, or owns."""
        self._received: dict[str, list[int]] = {}
        """Values by tensor, with those that it only passes on; the latest last."""

    @property
    def lacks_start(self) -> bool:
        """Whether it needs an empty message to begin; see `flexpie.core.messages.lacks_start`."""
        return lacks_start([step.source if isinstance(step, Receive) else None for step in self.steps])

    def held_regions(self, tensor: str) -> list[Region]:
        """Boxes of a tensor that the device holds; they may overlap."""
        return [self.values[index].region for index in self._held.get(tensor, ())]

    def feed(self, tensor: str, region: Region) -> None:
        """Take an input of the request."""
        self.steps.append(Feed(self._new_value(tensor, region)))

    def send(self, exchange: int, message: Message, relayed: bool) -> Message:
        """Send boxes that the device holds, or (`relayed`) received; returns the message with the boxes as they are
        sent: what is relayed may come from several values, and is then cut."""
        cut = self._received_parts if relayed else self._held_parts
        wanted = [part for box in message.wanted for part in cut(*box)]
        passing = [part for box in message.passing for part in cut(*box)]
        self.steps.append(Send(exchange, message.destination, (*wanted, *passing)))
        return Message(self.device, message.destination, self._boxes(wanted), self._boxes(passing))

    def send_first(self, exchange: int, destination: int) -> None:
        """Send an empty message right after the inputs are there."""
        feeds = sum(isinstance(step, Feed) for step in self.steps)
        self.steps.insert(feeds, Send(exchange, destination, ()))

    def receive(self, exchange: int, message: Message) -> None:
        """Wait for a message, whose boxes are as they are sent."""
        wanted = [self._new_value(*box) for box in message.wanted]
        passing = [self._new_value(*box, held=False) for box in message.passing]
        for index in (*wanted, *passing):
            self._received.setdefault(self.values[index].tensor, []).append(index)
        self.steps.append(Receive(exchange, message.source, (*wanted, *passing)))

    def receive_first(self, exchange: int, source: int) -> None:
        """Wait for an empty message before anything else."""
        self.steps.insert(0, Receive(exchange, source, ()))

    def run(self, spec: SubgraphSpec) -> None:
        """Run a subgraph on assembled inputs."""
        inputs = tuple(self.value_of(spec.narrow.get(tensor, tensor), region) for tensor, region in spec.inputs)
        narrow = ((spec.narrow[tensor], region) for tensor, region in spec.narrow_outputs)
        outputs = tuple(self._new_value(tensor, region) for tensor, region in (*spec.outputs, *narrow))
        self.steps.append(Run(len(self.subgraphs), inputs, outputs))
        self.subgraphs.append(spec)

    def value_of(self, tensor: str, region: Region) -> int:
        """A value of exactly this region: one that exists, or one assembled from those that do."""
        held = self._held.get(tensor, [])
        for index in held:
            if self.values[index].region == region:
                return index
        parts = self._cover(region, sorted(held, key=lambda index: -self.values[index].region.size))
        assert parts is not None, f"device {self.device} lacks a part of {region} of {tensor}"
        target = self._new_value(tensor, region)
        self.steps.append(Assemble(target, tuple(parts)))
        return target

    def finish(self) -> DeviceProgram:
        """The program, with each value released after its last use."""
        return DeviceProgram(self.device, tuple(self.values), self._with_releases(), tuple(self.outputs))

    def _new_value(self, tensor: str, region: Region, held: bool = True) -> int:
        spec = self._tensors[tensor]
        self.values.append(Value(tensor, region, spec.dtype, spec.opaque))
        if held:
            self._held.setdefault(tensor, []).append(len(self.values) - 1)
        return len(self.values) - 1

    def _held_parts(self, tensor: str, region: Region) -> list[Part]:
        for index in self._held.get(tensor, ()):
            if self.values[index].region.contains(region):
                return [Part(index, region)]
        raise AssertionError(f"device {self.device} does not hold {region} of {tensor}")

    def _received_parts(self, tensor: str, region: Region) -> list[Part]:
        parts = self._cover(region, reversed(self._received.get(tensor, [])))
        assert parts is not None, f"device {self.device} did not receive {region} of {tensor}"
        return parts

    def _cover(self, region: Region, indices: Iterable[int]) -> list[Part] | None:
        """Disjoint parts of values, the first ones first, that make up a region; None if they do not."""
        parts, missing = [], [region] if not region.is_empty else []
        for index in indices:
            box = self.values[index].region
            parts += [Part(index, common) for piece in missing if not (common := piece.intersect(box)).is_empty]
            missing = subtract_from_all(missing, box)
        return None if missing else parts

    def _boxes(self, parts: Sequence[Part]) -> tuple[Box, ...]:
        return tuple((self.values[part.value].tensor, part.region) for part in parts)

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
