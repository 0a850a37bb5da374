"""From a plan to programs: who sends what to whom, what each device assembles and runs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flexpie.compiler.drawing import single_draws
from flexpie.compiler.program_builder import ProgramBuilder
from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.core.exchange import Copy, copies_for
from flexpie.core.footprint import Footprint, crossing_tensors, owned_at_end, segment_footprints
from flexpie.core.graph import LayerGraph
from flexpie.core.messages import in_receiving_order, message_rounds
from flexpie.core.plan import Plan, Segment
from flexpie.core.program import MASTER, DeviceProgram
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.core.turns import plan_of_turn, turns


@dataclass(frozen=True)
class Lowered:
    """The programs of a plan, and what their subgraphs compute."""

    master: DeviceProgram
    programs: tuple[DeviceProgram | None, ...]
    """One per device of the plan; None for a device that takes no part, not even by relaying."""
    subgraphs: tuple[tuple[SubgraphSpec, ...], ...]
    """Per device, in the order of its program's `Run` steps."""


@dataclass
class _Lowering:
    graph: LayerGraph
    relayed: tuple[tuple[int, ...], ...]
    """See `Plan`."""
    builders: dict[int, ProgramBuilder]
    """By device; `MASTER` too."""
    narrow: Mapping[str, str]
    """Tensors that are float16 between devices, and what they are called there."""
    owners: dict[str, Mapping[int, Region]] = field(default_factory=dict)
    """Who owns which region of each live tensor."""
    exchanges: int = 0
    """Rounds of messages so far."""
    exchanged: set[str] = field(default_factory=set)
    """Tensors that some device has from another."""

    def feed_inputs(self) -> None:
        master = self.builders[MASTER]
        for name in self.graph.inputs:
            whole = self.graph.tensors[name].whole
            master.feed(name, whole)
            self.owners[name] = {MASTER: whole}

    def exchange(self, needs: Iterable[tuple[int, str, Region]]) -> None:
        """Move what each device needs and does not hold; where devices relay, a message may carry more than that."""
        copies: list[Copy] = []
        for device, tensor, region in needs:
            held = self.builders[device].held_regions(tensor)
            copies += copies_for(tensor, device, region, held, self.owners[tensor])
        self.exchanged.update(copy.tensor for copy in copies if MASTER not in (copy.source, copy.destination))
        devices = len(self.builders) - 1
        for number, messages in enumerate(message_rounds(copies, self.relayed, devices)):
            sent = [self.builders[item.source].send(self.exchanges, item, relayed=number > 0) for item in messages]
            for message in in_receiving_order(sent, devices):
                self.builders[message.destination].receive(self.exchanges, message)
            self.exchanges += 1

    def run_segment(self, index: int, segment: Segment) -> None:
        footprints = segment_footprints(self.graph, segment.first, segment.stop, segment.scheme, segment.shares)
        self.exchange(
            (device, self.narrow.get(tensor, tensor), region)
            for device, footprint in enumerate(footprints)
            for tensor, region in sorted(footprint.wanted.items())
        )
        outputs = crossing_tensors(self.graph, segment.first, segment.stop)
        for device, footprint in enumerate(footprints):
            if footprint.parts:
                self._run(f"segment{index}", device, footprint, outputs)
        owned = owned_at_end(self.graph, segment.first, segment.stop, segment.scheme, segment.shares)
        for tensor, regions in owned.items():
            owners = {d: region for d, region in enumerate(regions) if region is not None}
            self.owners[tensor] = self.owners[self.narrow.get(tensor, tensor)] = owners

    def _run(self, name: str, device: int, footprint: Footprint, outputs: tuple[str, ...]) -> None:
        inputs = tuple(sorted(footprint.wanted.items()))
        results = [(tensor, footprint.held[tensor]) for tensor in outputs if tensor in footprint.held]
        exact = tuple(item for item in results if item[0] not in self.narrow or item[0] in self.graph.outputs)
        rounded = tuple(item for item in results if item[0] in self.narrow and self.graph.readers.get(item[0]))
        spec = SubgraphSpec(name, tuple(reversed(footprint.parts)), inputs, exact, self.narrow, rounded)
        self.builders[device].run(spec)

    def gather_outputs(self) -> None:
        wanted = [(MASTER, name, self.graph.tensors[name].whole) for name in self.graph.outputs]
        self.exchange(dict.fromkeys(wanted))
        master = self.builders[MASTER]
        master.outputs = [master.value_of(name, region) for _, name, region in wanted]

    def start_devices(self) -> None:
        """Devices that would not begin get an empty message."""
        for device, builder in self.builders.items():
            if device != MASTER and builder.lacks_start:
                self.builders[MASTER].send_first(self.exchanges, device)
                builder.receive_first(self.exchanges, MASTER)
                self.exchanges += 1


def lower(graph: LayerGraph, plan: Plan) -> Lowered:
    """Programs for every device of a plan and for the master; a device may have one only to relay.

    The plan's segments must follow one another and cover all layers. Where devices take turns the master's program is
    that for the first of them.
    """
    if parts := turns(plan.segments):
        return _lowered_turns(graph, plan, tuple(parts))
    lowering = _lowered(graph, plan, {})
    if narrow := _narrow_names(graph.with_boundary(plan.boundary), lowering.exchanged):
        lowering = _lowered(graph, plan, narrow)
    builders, devices = lowering.builders, range(len(plan.devices))
    return Lowered(
        master=builders[MASTER].finish(),
        programs=tuple(builders[device].finish() if builders[device].steps else None for device in devices),
        subgraphs=tuple(tuple(builders[device].subgraphs) for device in devices),
    )


def _lowered_turns(graph: LayerGraph, plan: Plan, devices: Sequence[int]) -> Lowered:
    """The programs of devices that each answer requests alone."""
    each = {device: lower(graph, plan_of_turn(plan, device)) for device in devices}
    return Lowered(
        master=each[devices[0]].master,
        programs=tuple(each[d].programs[d] if d in each else None for d in range(len(plan.devices))),
        subgraphs=tuple(each[d].subgraphs[d] if d in each else () for d in range(len(plan.devices))),
    )


def _lowered(graph: LayerGraph, plan: Plan, narrow: Mapping[str, str]) -> _Lowering:
    twins = {twin: TensorSpec(twin, graph.tensors[name].shape, ElementType.FLOAT16) for name, twin in narrow.items()}
    tensors = ChainMap(twins, dict(graph.tensors)) if twins else graph.tensors
    ends = (MASTER, *range(len(plan.devices)))
    lowering = _Lowering(graph, plan.relayed, {end: ProgramBuilder(tensors, end) for end in ends}, narrow)
    lowering.feed_inputs()
    for index, segment in enumerate(single_draws(graph, plan)):
        lowering.run_segment(index, segment)
    lowering.gather_outputs()
    lowering.start_devices()
    return lowering


def _narrow_names(graph: LayerGraph, exchanged: Iterable[str]) -> dict[str, str]:
    """The exchanged tensors that are to be float16 between devices, each with a name that no tensor has."""
    names = {}
    for name in sorted(exchanged):
        if graph.boundary.narrows(graph.tensors[name]):
            names[name] = f"{name}/float16"
            while names[name] in graph.tensors:
                names[name] += "'"
    return names
