"""One layer's part of a footprint on all devices at once, worked out once for all layers that look the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.footprint import Footprint
from flexpie.core.graph import Layer, LayerGraph
from flexpie.core.region import Region
from flexpie.planner.cost import Array, CostModel, LayerWork, layer_work
from flexpie.planner.layouts import NOTHING, Layout, TensorKind


@dataclass(frozen=True)
class _Part:
    """What one device does for one layer."""

    needed: tuple[Region | None, ...]
    """Per activation that the layer reads."""
    computed: tuple[Region | None, ...]
    """Per tensor that the layer yields."""
    work: int
    """`NOTHING` for none."""
    weight_bytes: int


@dataclass(frozen=True)
class Step:
    """What all devices do for one layer, given which layouts of its results are wanted."""

    needed: tuple[int, ...]
    """Layout of each activation that the layer reads; `NOTHING` where no device reads it."""
    computed: tuple[int, ...]
    """Layout of each tensor that the layer yields."""
    works: tuple[int, ...]
    """Number of the work, per device; `NOTHING` for none."""
    weight_bytes: tuple[int, ...]
    """Per device."""


@dataclass
class LayerSteps:
    """The steps of every layer of a graph, remembered by what they depend on."""

    graph: LayerGraph
    devices: int
    works: list[LayerWork] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    kinds: dict[tuple[tuple[int, ...], int], TensorKind] = field(default_factory=dict)
    activations: list[tuple[str, ...]] = field(init=False)
    """Per layer: the activations that it reads from outside."""

    def __post_init__(self) -> None:
        graph = self.graph
        self._work_index: dict[LayerWork, int] = {}
        self._parts: dict[tuple[int, tuple[Region | None, ...]], _Part] = {}
        self._index: dict[tuple[int, tuple[int, ...]], int] = {}
        self.activations = [
            tuple(name for name in layer.consumed if name not in graph.weights) for layer in graph.layers
        ]
        numbers: dict[object, int] = {}
        self._signatures = [numbers.setdefault(_signature(graph, layer), len(numbers)) for layer in graph.layers]
        self._kind_of = {name: self._kind(name) for names in self._all_activations() for name in names}
        self._costs: Array = np.zeros((0, self.devices))
        self.work_seconds: Array = np.zeros((0, self.devices))
        """Seconds of every work on every device that `seconds` has asked for, [works, devices]."""

    def _all_activations(self) -> list[tuple[str, ...]]:
        return [self.graph.inputs, *(layer.produced for layer in self.graph.layers)]

    def _kind(self, name: str) -> TensorKind:
        spec = self.graph.tensors[name]
        key = (spec.shape, spec.itemsize)
        return self.kinds.setdefault(key, TensorKind(*key, ends=self.devices + 1))

    def kind(self, tensor: str) -> TensorKind:
        """The kind of an activation."""
        return self._kind_of[tensor]

    def step(self, layer: int, wanted: tuple[int, ...]) -> int:
        """The number of the step that computes the wanted layouts of a layer's results, `NOTHING` for each that
        nobody wants (not all)."""
        key = (self._signatures[layer], wanted)
        number = self._index.get(key)
        if number is None:
            number = self._index[key] = len(self.steps)
            self.steps.append(self._make(self.graph.layers[layer], layer, wanted))
        return number

    def _make(self, layer: Layer, index: int, wanted: tuple[int, ...]) -> Step:
        kinds = [self._kind_of[name] for name in layer.produced]
        layouts: list[Layout] = [
            (None,) * (self.devices + 1) if number == NOTHING else kind.layouts[number]
            for kind, number in zip(kinds, wanted, strict=True)
        ]
        parts = [self._part(index, tuple(layout[device] for layout in layouts)) for device in range(self.devices)]
        return Step(
            needed=self._layouts(self.activations[index], [part.needed for part in parts]),
            computed=self._layouts(layer.produced, [part.computed for part in parts]),
            works=tuple(part.work for part in parts),
            weight_bytes=tuple(part.weight_bytes for part in parts),
        )

    def _layouts(self, names: Sequence[str], regions: Sequence[tuple[Region | None, ...]]) -> tuple[int, ...]:
        found = []
        for slot, name in enumerate(names):
            layout = (*(part[slot] for part in regions), None)
            found.append(NOTHING if not any(r is not None for r in layout) else self._kind_of[name].layout(layout))
        return tuple(found)

    def _part(self, index: int, wanted: tuple[Region | None, ...]) -> _Part:
        key = (self._signatures[index], wanted)
        if key not in self._parts:
            graph, layer = self.graph, self.graph.layers[index]
            regions = {name: r for name, r in zip(layer.produced, wanted, strict=True) if r is not None}
            footprint = Footprint(graph, regions)
            footprint.extend(layer)
            work = layer_work(graph, layer, footprint.parts)
            self._parts[key] = _Part(
                needed=tuple(footprint.wanted.get(name) for name in self.activations[index]),
                computed=tuple(footprint.held.get(name) for name in layer.produced),
                work=self._work(work) if work else NOTHING,
                weight_bytes=sum(
                    region.size * graph.tensors[name].itemsize for name, region in footprint.weights.items()
                ),
            )
        return self._parts[key]

    def _work(self, work: LayerWork) -> int:
        number = self._work_index.setdefault(work, len(self.works))
        if number == len(self.works):
            self.works.append(work)
        return number

    def seconds(self, model: CostModel) -> Array:
        """Seconds of every step found so far on every device, shape [len(steps), devices]. New works are asked of
        the model in one go."""
        known = len(self.work_seconds)
        if known < len(self.works):
            fresh = [model.compute_seconds(device, self.works[known:]) for device in range(self.devices)]
            self.work_seconds = np.concatenate((self.work_seconds, np.stack(fresh, axis=1)))
        known = len(self._costs)
        if known < len(self.steps):
            added = np.zeros((len(self.steps) - known, self.devices))
            for row, step in enumerate(self.steps[known:]):
                for device, work in enumerate(step.works):
                    if work != NOTHING:
                        added[row, device] = self.work_seconds[work, device]
            self._costs = np.concatenate((self._costs, added))
        return self._costs

    def weights_of(self, step: int) -> Array:
        """Bytes of weights of one step on every device, shape [devices]."""
        return np.array(self.steps[step].weight_bytes, dtype=np.float64)

    def weight_bytes(self) -> Array:
        """Bytes of weights of every step on every device, shape [len(steps), devices]."""
        return np.array([step.weight_bytes for step in self.steps], dtype=np.float64).reshape(-1, self.devices)


def _signature(graph: LayerGraph, layer: Layer) -> tuple[object, ...]:
    """Equal for two layers whose parts are equal: operators, attributes, wiring, neighbours, shapes and constants."""
    slots: dict[str, int] = {"": -1}
    operators = tuple(
        (op.op_type, op.domain, op.version, op.opaque, tuple(sorted(op.attributes.items())),
         tuple(slots.setdefault(name, len(slots)) for name in op.inputs),
         tuple(slots.setdefault(name, len(slots)) for name in op.outputs),
         graph.makers.get(op.inputs[0], "") if op.inputs else "", graph.first_readers.get(op.outputs[0], ""))
        for op in layer.operators
    )  # fmt: skip
    tensors = tuple(
        (
            graph.tensors[name].shape,
            graph.tensors[name].dtype,
            graph.tensors[name].opaque,
            name in graph.weights,
            graph.constants.get(name),
            graph.reals.get(name),
        )
        for name in slots
        if name
    )
    return operators, tensors
