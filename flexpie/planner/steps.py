"""One layer's part of a footprint on all devices at once, worked out once for all layers that look the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.graph import Layer, LayerGraph
from flexpie.planner.batches import layer_parts
from flexpie.planner.boxes import ABSENT, Boxes, Indices, distinct, present
from flexpie.planner.cost import Array, CostModel, LayerWork
from flexpie.planner.layouts import NOTHING, TensorKind


@dataclass
class Steps:
    """What all devices do for one layer (or another that looks the same), S times: for S combinations of layouts in
    which its results are wanted. Each array has a last row of its own for a layer of which nothing is wanted."""

    needed: Indices
    """Layout of each activation that the layer reads, [S + 1, activations]; `NOTHING` where no device reads it."""
    computed: Indices
    """Layout of each result that somebody outside reads, [S + 1, results]."""
    works: Indices
    """Number of the work per device, [S + 1, devices]; `NOTHING` for none."""
    weight_bytes: Array
    """[S + 1, devices]"""
    index: dict[bytes, int] = field(default_factory=dict)
    """By the wanted layouts of the results."""

    def append(self, needed: Indices, computed: Indices, works: Indices, weight_bytes: Array) -> None:
        """Add some, in front of the last row."""
        self.needed = np.concatenate((self.needed[:-1], needed, self.needed[-1:]))
        self.computed = np.concatenate((self.computed[:-1], computed, self.computed[-1:]))
        self.works = np.concatenate((self.works[:-1], works, self.works[-1:]))
        self.weight_bytes = np.concatenate((self.weight_bytes[:-1], weight_bytes, self.weight_bytes[-1:]))


class LayerSteps:
    """The steps of every layer of a graph, remembered by what they depend on."""

    def __init__(self, graph: LayerGraph, devices: int) -> None:
        self.graph, self.devices = graph, devices
        self.kinds: dict[object, TensorKind] = {}
        self.works: list[LayerWork] = []
        self._kind_of = {name: self._make_kind(name) for name in (*graph.inputs, *graph.producer)}
        self.activations = [
            tuple(name for name in layer.consumed if name not in graph.weights) for layer in graph.layers
        ]
        """Per layer: the activations that it reads from outside."""
        self.results = [
            tuple(name for name in layer.produced if graph.last_use(name) > at) for at, layer in enumerate(graph.layers)
        ]
        """Per layer: what it yields that is read outside."""
        found: dict[object, Steps] = {}
        self._steps: list[Steps] = []
        for at, layer in enumerate(graph.layers):
            key = _signature(graph, layer, self.results[at])
            if key not in found:
                found[key] = self._no_steps(at)
            self._steps.append(found[key])

    def _no_steps(self, layer: int) -> Steps:
        return Steps(
            np.full((1, len(self.activations[layer])), NOTHING, dtype=np.int64),
            np.full((1, len(self.results[layer])), NOTHING, dtype=np.int64),
            np.full((1, self.devices), NOTHING, dtype=np.int64),
            np.zeros((1, self.devices)),
        )

    def _make_kind(self, name: str) -> TensorKind:
        spec = self.graph.tensors[name]
        key = (spec.shape, spec.itemsize, self.graph.boundary.itemsize(spec))
        shape, itemsize, sent = key
        return self.kinds.setdefault(key, TensorKind(shape, itemsize, self.devices + 1, sent))

    def kind(self, tensor: str) -> TensorKind:
        """The kind of an activation."""
        return self._kind_of[tensor]

    def distinct(self) -> list[Steps]:
        """The steps of all layers that look different."""
        return list({id(steps): steps for steps in self._steps}.values())

    def of_layer(self, layer: int) -> Steps:
        """The steps of a layer that were asked for so far."""
        return self._steps[layer]

    def numbers(self, layer: int, wanted: Indices) -> Indices:
        """The numbers of the steps that compute the wanted layouts of a layer's results.

        `wanted` has shape [B, results], `NOTHING` for each that nobody wants; for a row of nothing the number is
        `NOTHING` too.
        """
        steps = self._steps[layer]
        first, where = distinct(wanted)
        rows = wanted[first]
        keys = [row.tobytes() for row in rows]
        fresh = [at for at, key in enumerate(keys) if key not in steps.index and (rows[at] != NOTHING).any()]
        if fresh:
            for at in fresh:
                steps.index[keys[at]] = len(steps.index)
            self._add(layer, rows[fresh])
        found: Indices = np.array([steps.index.get(key, NOTHING) for key in keys], dtype=np.int64)[where]
        return found

    def _add(self, layer: int, wanted: Indices) -> None:
        """Work out steps for rows of wanted layouts."""
        graph, devices, count = self.graph, self.devices, len(wanted)
        asked = {
            name: self._kind_of[name].boxes(wanted[:, at])[:, :-1]
            for at, name in enumerate(self.results[layer])
            if (wanted[:, at] != NOTHING).any()
        }
        # Each device of each step is one part; equal parts are worked out once.
        flat = {name: boxes.reshape(count * devices, *boxes.shape[2:]) for name, boxes in asked.items()}
        busy = np.any([present(boxes) for boxes in flat.values()], axis=0)
        first, where = distinct(np.hstack([boxes[busy].reshape(int(busy.sum()), -1) for boxes in flat.values()]))
        parts = layer_parts(graph, graph.layers[layer], {name: boxes[busy][first] for name, boxes in flat.items()})
        works = np.full(count * devices, NOTHING, dtype=np.int64)
        works[busy] = self._numbered(parts.works)[parts.work][where]
        weights = np.zeros(count * devices)
        weights[busy] = parts.weight_bytes[where]
        self._steps[layer].append(
            self._layouts(self.activations[layer], parts.needed, busy, where, count),
            self._layouts(self.results[layer], parts.computed, busy, where, count),
            works.reshape(count, devices),
            weights.reshape(count, devices),
        )

    def _numbered(self, works: Sequence[LayerWork]) -> Indices:
        """Note works, and return their numbers; `NOTHING` for those of no operator."""
        numbers = np.full(len(works), NOTHING, dtype=np.int64)
        for at, work in enumerate(works):
            if work:
                numbers[at] = len(self.works)
                self.works.append(work)
        return numbers

    def _layouts(
        self, names: Sequence[str], parts: Mapping[str, Boxes], busy: Indices, where: Indices, count: int
    ) -> Indices:
        """The layouts of some tensors, [count, len(names)], from the regions of the busy devices' distinct parts."""
        found = np.full((count, len(names)), NOTHING, dtype=np.int64)
        for slot, name in enumerate(names):
            if name not in parts:
                continue
            kind, boxes = self._kind_of[name], parts[name]
            spread = np.full((count, kind.ends, *boxes.shape[1:]), ABSENT, dtype=np.int64)
            filled = np.full((len(busy), *boxes.shape[1:]), ABSENT, dtype=np.int64)
            filled[busy] = boxes[where]
            spread[:, :-1] = filled.reshape(count, self.devices, *boxes.shape[1:])
            some = present(spread).any(axis=1)
            found[some, slot] = kind.layouts(spread[some])
        return found


@dataclass
class WorkSeconds:
    """Seconds of the works of some steps on the devices that do them, asked of a cost model in few large questions."""

    steps: LayerSteps
    model: CostModel
    seconds: Array = field(init=False)
    """Of every work on each device that was asked for it (NaN on others), and 0 for `NOTHING` in the last row,
    [works + 1, devices]."""

    def __post_init__(self) -> None:
        self.seconds = np.zeros((1, self.steps.devices))
        self.refresh()

    def refresh(self) -> None:
        """Ask for what is new."""
        works, twins = self.steps.works, np.array(self.model.twins)
        fresh = np.full((len(works) + 1 - len(self.seconds), self.steps.devices), np.nan)
        self.seconds = np.concatenate((self.seconds[:-1], fresh, self.seconds[-1:]))
        done = np.zeros(self.seconds.shape, dtype=np.bool_)
        for steps in self.steps.distinct():
            done[steps.works, np.arange(self.steps.devices)] = True
        for twin in sorted(set(self.model.twins)):
            alike = np.nonzero(twins == twin)[0]
            asked = np.nonzero(done[:, alike].any(axis=1) & np.isnan(self.seconds[:, twin]))[0]
            if len(asked):
                found = self.model.compute_seconds(twin, [works[number] for number in asked.tolist()])
                self.seconds[np.ix_(asked, alike)] = found[:, None]

    def of_layer(self, layer: int) -> Array:
        """Of every step of a layer, [S + 1, devices]."""
        found: Array = self.seconds[self.steps.of_layer(layer).works, np.arange(self.steps.devices)]
        return found


def _signature(graph: LayerGraph, layer: Layer, results: Sequence[str]) -> tuple[object, ...]:
    """Equal for two layers whose parts are equal: operators, attributes, wiring, neighbours, shapes and constants, and
    the same results are read outside."""
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
    return operators, tensors, tuple(slots[name] for name in results)
