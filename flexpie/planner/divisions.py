"""The ways to divide tensors that segments of one graph can end in, and what sets of devices compute whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import REPLICATED, owned_regions
from flexpie.planner.boxes import Indices, Mask, boxes_of
from flexpie.planner.candidates import Candidate
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.layouts import NOTHING
from flexpie.planner.steps import LayerSteps, WorkSeconds

_MOST_ADDED_SETS = 4
"""Sets of devices, beyond those of the given candidates, for which a replicated candidate is added."""


class Divisions:
    """The candidates' layouts of each tensor, and the steps of each layer.

    Parameters
    ----------
    arising: whether to add replicated candidates for sets of devices that arise where a division leaves some idle.
    """

    def __init__(
        self,
        graph: LayerGraph,
        devices: int,
        candidates: tuple[Candidate, ...],
        model: CostModel,
        arising: bool = True,
    ) -> None:
        self.graph, self.devices, self.model = graph, devices, model
        self.steps = LayerSteps(graph, devices)
        self.work_seconds = WorkSeconds(self.steps, model)
        self.candidates = self._with_arising_sets(candidates) if arising else candidates
        alone = {_active(shares) for scheme, shares in self.candidates if scheme.device is not None}
        together = {_active(shares) for scheme, shares in self.candidates if scheme == REPLICATED}
        self.sets = sorted(alone | together, key=sorted)
        """Sets of devices that some candidate lets compute everything."""
        self._wholes: dict[str, Indices] = {}
        self._owned: dict[object, Indices] = {}

    def owned_layouts(self, name: str) -> Indices:
        """The layout of a tensor in each candidate division, [candidates]."""
        spec, kind = self.graph.tensors[name], self.steps.kind(name)
        key = (id(kind), spec.grain)
        if key not in self._owned:
            regions = [
                (*owned_regions(scheme, spec.shape, shares, spec.grain), None) for scheme, shares in self.candidates
            ]
            boxes = boxes_of([region for layout in regions for region in layout], len(spec.shape))
            self._owned[key] = kind.layouts(boxes.reshape(len(regions), kind.ends, *boxes.shape[1:]))
        return self._owned[key]

    def _with_arising_sets(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """The candidates, and replicated ones for sets of devices that only arise where a division leaves some
        devices idle: without them growth could not stop there."""
        known = {_active(shares) for scheme, shares in candidates if scheme == REPLICATED}
        arising: Counter[frozenset[int]] = Counter()
        specs = {spec.shape: spec for spec in map(self.graph.tensors.__getitem__, self.graph.producer)}
        for spec in specs.values():
            for scheme, shares in candidates:
                regions = owned_regions(scheme, spec.shape, shares, spec.grain)
                owners = frozenset(device for device, region in enumerate(regions) if region is not None)
                if len(owners) > 1 and owners not in known:
                    arising[owners] += 1
        added = [
            (REPLICATED, tuple(float(device in owners) for device in range(self.devices)))
            for owners, _ in arising.most_common(_MOST_ADDED_SETS)
        ]
        return (*candidates, *added)

    def wholes(self, name: str) -> Indices:
        """The layouts of a tensor that each of `sets` has whole, [sets]."""
        if name not in self._wholes:
            self._wholes[name] = self.steps.kind(name).whole_on(self.sets)
        return self._wholes[name]

    def whole_steps(self, layer: int) -> Indices:
        """The steps in which each of `sets` computes all of a layer, [sets]; `NOTHING` where nobody reads it."""
        results = self.steps.results[layer]
        if not results:
            return np.full(len(self.sets), NOTHING, dtype=np.int64)
        return self.steps.numbers(layer, np.stack([self.wholes(name) for name in results], axis=1))

    @cached_property
    def whole_seconds(self) -> Array:
        """What computing all of each layer takes each device of each of `sets`, [layers, sets, devices]."""
        numbers = [self.whole_steps(layer) for layer in range(len(self.graph.layers))]
        self.work_seconds.refresh()
        shape = (len(self.sets), self.devices)
        found = [self.work_seconds.of_layer(layer)[some] for layer, some in enumerate(numbers)]
        return np.array(found, dtype=np.float64).reshape(-1, *shape)

    def weights_onward(self) -> Array:
        """Bytes of weights that the layers behind each cut need together, when each is computed once, [cuts]."""
        needed = [0.0]
        for layer in range(len(self.graph.layers) - 1, -1, -1):
            step = self.whole_steps(layer)[0]
            needed.append(needed[-1] + float(self.steps.of_layer(layer).weight_bytes[step].max()))
        return np.array(needed[::-1])

    def slowest(self, number: int) -> int | None:
        """The one of a set of devices that is the slowest for every layer; None where that depends on the layer."""
        devices = sorted(self.sets[number])
        seconds = self.whole_seconds[:, number, devices]
        slowest = np.nonzero((seconds == seconds.max(axis=1, keepdims=True)).all(axis=0))[0]
        return devices[slowest[0]] if len(slowest) else None

    def deputy(self, number: int) -> int:
        """One of a set of devices, the slowest where there is one."""
        slowest = self.slowest(number)
        return min(self.sets[number]) if slowest is None else slowest

    def equally_fast(self) -> Mask:
        """Whether all devices of each of `sets` take the same time for every work, [sets]."""
        twins = self.model.twins
        return np.array([len({twins[device] for device in devices}) == 1 for devices in self.sets], dtype=np.bool_)

    def whole_at_master(self, name: str) -> int:
        """The layout of a tensor that only the master has."""
        return int(self.steps.kind(name).whole_on([frozenset({self.devices})])[0])

    def input_holding(self, name: str) -> int:
        """The holding of a model input before the first exchange."""
        layout = self.whole_at_master(name)
        return self.steps.kind(name).holding(layout, (layout,))


def _active(shares: Sequence[float]) -> frozenset[int]:
    return frozenset(device for device, share in enumerate(shares) if share > 0)
