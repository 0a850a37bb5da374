"""Grows segments backwards from every place where one can end, in every candidate division."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import REPLICATED, owned_regions
from flexpie.planner.candidates import Candidate
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.layouts import NOTHING, Layout
from flexpie.planner.steps import LayerSteps, Step

LONGEST_SEGMENT = 48
"""Layers after which growth ends where nothing else ends it: it bounds the table of very deep graphs."""
_PATIENCE = 4
"""Cuts at which all is replicated that growth passes in search of one where a split is proven to lose nothing."""
_MOST_ADDED_SETS = 4
"""Sets of devices, beyond those of the given candidates, for which a replicated candidate is added."""


@dataclass
class Grown:
    """All segments that end at one cut with one candidate, from the shortest on."""

    candidate: int
    firsts: list[int] = field(default_factory=list)
    """First layer of each segment."""
    steps: list[int] = field(default_factory=list)
    """Number of the step that each segment has more than the one before it."""
    needs: list[Mapping[str, int]] = field(default_factory=list)
    """Layout of each tensor that each segment needs."""
    holdings: dict[str, int] = field(default_factory=dict)
    """Holding of each live tensor at the end that a long enough segment produces."""
    computed: dict[str, int] = field(default_factory=dict)
    """Layout that the devices compute of each tensor."""
    wanted: dict[str, int] = field(default_factory=dict)
    """State of the growth: layout of each tensor that the longest segment needs."""
    replicated: frozenset[int] = frozenset()
    """Devices that each need all of everything in front of the longest segment; empty if growth ended otherwise."""
    compute_seconds: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[segments, devices]"""
    weight_bytes: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[segments, devices]"""
    relief_seconds: float = 0.0
    """The most that a segment which is longer than the longest one here can save over its split; see `Growth`."""


class Growth:
    """Grows the segments of one graph, as long as they can be of use.

    Growth stops in front of layer i when every longer segment [f, e) can be split there without loss: into
    [f, i) replicated on a set A of devices and [i, e). That is so where

    - every device of A needs all of every tensor that is live at i, and the others need nothing: what [f, i)
      computes is then the same in both, and no exchange separates the two;
    - layer i - 1 yields or reads all of each of these tensors, so that [f, i) makes A hold them;
    - tensors that are live at e as well will be sent by the same devices in both.

    With c1, c2 the devices' seconds in both parts, fusion still saves max c1 + max c2 − max(c1 + c2), the sums of the
    split being taken over its slowest devices. That is 0 where the devices of A are equally fast. Where they are not
    it is at most max c2 − min over A of c2, kept as `relief_seconds`; see `flexpie.planner.extension`.
    """

    def __init__(
        self,
        graph: LayerGraph,
        devices: int,
        candidates: tuple[Candidate, ...],
        model: CostModel,
        max_layers: int | None = None,
    ) -> None:
        self.graph, self.devices, self.model = graph, devices, model
        self.steps = LayerSteps(graph, devices)
        self._max_layers = LONGEST_SEGMENT if max_layers is None else max_layers
        self.candidates = candidates if max_layers is not None else self._with_arising_sets(candidates)
        self._replicated = {_active(shares) for scheme, shares in self.candidates if scheme == REPLICATED}
        self._replicated |= {_active(shares) for scheme, shares in self.candidates if scheme.device is not None}
        self.complete = max_layers is None
        """Whether no segment is missing that could be of use."""
        self._whole_layouts: dict[tuple[str, frozenset[int]], int] = {}

    # ----------------------------------------------------------------------------------------- candidates

    def _owned(self, name: str, candidate: Candidate) -> Layout:
        scheme, shares = candidate
        spec = self.graph.tensors[name]
        return (*owned_regions(scheme, spec.shape, shares, spec.grain), None)

    def _with_arising_sets(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """The candidates, and replicated ones for sets of devices that only arise where a division leaves some
        devices idle: without them growth could not stop there."""
        known = {_active(shares) for scheme, shares in candidates if scheme == REPLICATED}
        arising: Counter[frozenset[int]] = Counter()
        shapes = {self.graph.tensors[name].shape: name for name in self.graph.producer}
        for name in shapes.values():
            for candidate in candidates:
                owners = frozenset(d for d, r in enumerate(self._owned(name, candidate)) if r is not None)
                if len(owners) > 1 and owners not in known:
                    arising[owners] += 1
        added = [
            (REPLICATED, tuple(float(device in owners) for device in range(self.devices)))
            for owners, _ in arising.most_common(_MOST_ADDED_SETS)
        ]
        return (*candidates, *added)

    def distinct_candidates(self, stop: int) -> list[tuple[int, dict[str, int]]]:
        """Candidates that divide the live tensors in front of layer `stop` differently, with those divisions."""
        names = [name for name in self.graph.live_after(stop) if name in self.graph.producer]
        found: dict[tuple[int, ...], int] = {}
        for number, candidate in enumerate(self.candidates):
            layouts = tuple(self.steps.kind(name).layout(self._owned(name, candidate)) for name in names)
            found.setdefault(layouts, number)
        return [(number, dict(zip(names, layouts, strict=True))) for layouts, number in found.items()]

    # --------------------------------------------------------------------------------------------- growth

    def grow_all(self) -> list[list[Grown]]:
        """Per cut: the segments that end there, per distinct candidate. None end at the first cut."""
        everything: list[list[Grown]] = [[]]
        for stop in range(1, len(self.graph.layers) + 1):
            everything.append([self._grow(stop, *choice) for choice in self.distinct_candidates(stop)])
        self._fill_costs(everything)
        return everything

    def _grow(self, stop: int, candidate: int, owned: dict[str, int]) -> Grown:
        grown = Grown(candidate)
        patience = _PATIENCE
        for first in range(stop - 1, max(-1, stop - 1 - self._max_layers), -1):
            self.take_in(grown, first, owned)
            devices = self._replicated_on(grown.wanted, first)
            if devices and self._splits_without_loss(first, devices, owned):
                grown.replicated = devices
                break
            patience -= bool(devices)
            if patience == 0:
                break
        self.complete = self.complete and (bool(grown.replicated) or grown.firsts[-1] == 0)
        return grown

    def _splits_without_loss(self, cut: int, devices: frozenset[int], owned: Mapping[str, int]) -> bool:
        """Whether what is live at a cut is there after any replicated segment that ends at it, and is sent by the
        same devices later on."""
        layer = cut - 1
        for name in self.graph.live_after(cut):
            if self.graph.producer.get(name) != layer and not self._reads_all(layer, name, devices):
                return False
            everywhere = len(devices) == self.devices and name not in self.graph.outputs
            if (
                name in owned
                and not everywhere
                and self._sources(name, owned[name]) != self._sources(name, self.whole_on(name, devices))
            ):
                return False
        return True

    def _reads_all(self, layer: int, name: str, devices: frozenset[int]) -> bool:
        """Whether a layer, computed whole by some devices, reads all of a tensor."""
        step = self._whole_step(layer, devices)
        if step is None or name not in self.steps.activations[layer]:
            return False
        return step.needed[self.steps.activations[layer].index(name)] == self.whole_on(name, devices)

    def _whole_step(self, layer: int, devices: frozenset[int]) -> Step | None:
        """What it takes that some devices compute all of a layer; None where nobody wants anything of it."""
        used = [name if self.graph.last_use(name) > layer else "" for name in self.graph.layers[layer].produced]
        if not any(used):
            return None
        wanted = tuple(self.whole_on(name, devices) if name else NOTHING for name in used)
        return self.steps.steps[self.steps.step(layer, wanted)]

    def whole_weight_bytes(self, layer: int) -> int:
        """Bytes of weights that computing all of a layer takes."""
        step = self._whole_step(layer, frozenset({0}))
        return 0 if step is None else step.weight_bytes[0]

    def take_in(self, grown: Grown, first: int, owned: Mapping[str, int]) -> None:
        """Make the segment one layer longer."""
        steps, wanted = self.steps, grown.wanted
        produced = self.graph.layers[first].produced
        asked = tuple(steps.kind(name).hull(wanted.pop(name, NOTHING), owned.get(name, NOTHING)) for name in produced)
        number = NOTHING
        if any(layout != NOTHING for layout in asked):
            number = steps.step(first, asked)
            step = steps.steps[number]
            for name, layout in zip(steps.activations[first], step.needed, strict=True):
                if layout != NOTHING:
                    wanted[name] = steps.kind(name).hull(wanted.get(name, NOTHING), layout)
            for name, layout in zip(produced, step.computed, strict=True):
                grown.computed[name] = layout
                if name in owned:
                    grown.holdings[name] = self.produced_holding(name, owned[name], layout)
        grown.firsts.append(first)
        grown.steps.append(number)
        grown.needs.append(dict(wanted))

    def produced_holding(self, name: str, owned: int, computed: int) -> int:
        """The holding of a tensor of which the devices computed one layout and own another."""
        return self.steps.kind(name).holding(self._sources(name, owned), (computed,))

    def _sources(self, name: str, owned: int) -> int:
        """The layout of what each device sends of a tensor: where it is replicated, the first owner sends all."""
        kind = self.steps.kind(name)
        regions = kind.layouts[owned]
        owners = [end for end, region in enumerate(regions) if region is not None]
        if len(owners) > 1 and regions[owners[0]] == regions[owners[1]]:
            return kind.layout(tuple(r if end == owners[0] else None for end, r in enumerate(regions)))
        return owned

    def _replicated_on(self, wanted: Mapping[str, int], first: int) -> frozenset[int]:
        """The devices that each need all of every tensor that is live in front of layer `first`, if nobody else
        needs anything and they can be asked to replicate; else no devices."""
        live = self.graph.live_after(first)
        if first == 0 or not live or any(name not in wanted for name in live):
            return frozenset()
        layout = self.steps.kind(live[0]).layouts[wanted[live[0]]]
        devices = frozenset(device for device, region in enumerate(layout) if region is not None)
        if devices not in self._replicated:
            return frozenset()
        return devices if all(wanted[name] == self.whole_on(name, devices) for name in live) else frozenset()

    def whole_on(self, name: str, devices: frozenset[int]) -> int:
        """The layout of a tensor that each of some ends has whole."""
        key = (name, devices)
        if key not in self._whole_layouts:
            whole = self.graph.tensors[name].whole
            regions = tuple(whole if end in devices else None for end in range(self.devices + 1))
            self._whole_layouts[key] = self.steps.kind(name).layout(regions)
        return self._whole_layouts[key]

    def whole_at_master(self, name: str) -> int:
        """The layout of a tensor that only the master has."""
        return self.whole_on(name, frozenset({self.devices}))

    def input_holding(self, name: str) -> int:
        """The holding of a model input before the first exchange."""
        layout = self.whole_at_master(name)
        return self.steps.kind(name).holding(layout, (layout,))

    # ---------------------------------------------------------------------------------------------- costs

    def _fill_costs(self, everything: Sequence[Sequence[Grown]]) -> None:
        # The row that NOTHING (-1) stands for comes last: a layer of which nothing is wanted costs nothing.
        none = np.zeros((1, self.devices))
        seconds = np.concatenate((self.steps.seconds(self.model), none))
        weights = np.concatenate((self.steps.weight_bytes(), none))
        for grown in (grown for choices in everything for grown in choices):
            grown.compute_seconds = np.cumsum(seconds[grown.steps], axis=0)
            grown.weight_bytes = np.cumsum(weights[grown.steps], axis=0)
            if not self._equally_fast(grown.replicated):
                last = grown.compute_seconds[-1]
                grown.relief_seconds = float(last.max() - last[sorted(grown.replicated)].min())

    def _equally_fast(self, devices: frozenset[int]) -> bool:
        """Whether all of some devices take the same time for every work."""
        seconds = self.steps.work_seconds[:, sorted(devices)]
        return bool((seconds == seconds[:, :1]).all())

    def slowest(self, devices: frozenset[int]) -> int | None:
        """The one of some devices that is the slowest for every work; None where that depends on the work."""
        seconds = self.steps.work_seconds[:, sorted(devices)]
        slowest = np.nonzero((seconds == seconds.max(axis=1, keepdims=True)).all(axis=0))[0]
        return sorted(devices)[slowest[0]] if len(slowest) else None


def _active(shares: Sequence[float]) -> frozenset[int]:
    return frozenset(device for device, share in enumerate(shares) if share > 0)
