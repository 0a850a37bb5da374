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
from flexpie.planner.steps import LayerSteps

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
    """Grows the segments of one graph.

    Growth stops in front of layer i when each of a set A of devices needs all of every live tensor, and the others
    need nothing. Every longer segment begins with layers that all of A compute whole, so it can be split at i into a
    replicated segment on A and the one grown so far, without any exchange between. With c1, c2 the devices' seconds
    in both parts, fusion saves max c1 + max c2 − max(c1 + c2), which is 0 where the devices of A are equally fast.
    Where they are not it is at most max c2 − min over A of c2, which is kept as `relief_seconds`.
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
        self._max_layers = len(graph.layers) if max_layers is None else max_layers
        self.candidates = candidates if max_layers is not None else self._with_arising_sets(candidates)
        self._replicated = {_active(shares) for scheme, shares in self.candidates if scheme == REPLICATED}
        self._replicated |= {_active(shares) for scheme, shares in self.candidates if scheme.device is not None}
        self._whole_layouts: dict[tuple[str, frozenset[int]], int] = {}

    # ----------------------------------------------------------------------------------------- candidates

    def _owned(self, name: str, candidate: Candidate) -> Layout:
        scheme, shares = candidate
        return (*owned_regions(scheme, self.graph.tensors[name].shape, shares), None)

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

    def _distinct_candidates(self, stop: int) -> list[tuple[int, dict[str, int]]]:
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
            everything.append([self._grow(stop, *choice) for choice in self._distinct_candidates(stop)])
        self._fill_costs(everything)
        return everything

    def _grow(self, stop: int, candidate: int, owned: dict[str, int]) -> Grown:
        grown = Grown(candidate)
        for first in range(stop - 1, max(-1, stop - 1 - self._max_layers), -1):
            self._take_in(grown, first, owned)
            grown.replicated = self._replicated_on(grown.wanted, first)
            if grown.replicated:
                break
        return grown

    def _take_in(self, grown: Grown, first: int, owned: Mapping[str, int]) -> None:
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
                if name in owned:
                    grown.holdings[name] = self._produced_holding(name, owned[name], layout)
        grown.firsts.append(first)
        grown.steps.append(number)
        grown.needs.append(dict(wanted))

    def _produced_holding(self, name: str, owned: int, computed: int) -> int:
        """Where replicated, the first owner sends to those that have nothing."""
        kind = self.steps.kind(name)
        regions = kind.layouts[owned]
        owners = [end for end, region in enumerate(regions) if region is not None]
        if len(owners) > 1 and regions[owners[0]] == regions[owners[1]]:
            sources = kind.layout(tuple(r if end == owners[0] else None for end, r in enumerate(regions)))
        else:
            sources = owned
        return kind.holding(sources, (computed,))

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
        return devices if all(wanted[name] == self._whole_on(name, devices) for name in live) else frozenset()

    def _whole_on(self, name: str, devices: frozenset[int]) -> int:
        key = (name, devices)
        if key not in self._whole_layouts:
            whole = self.graph.tensors[name].whole
            regions = tuple(whole if end in devices else None for end in range(self.devices + 1))
            self._whole_layouts[key] = self.steps.kind(name).layout(regions)
        return self._whole_layouts[key]

    def whole_at_master(self, name: str) -> int:
        """The layout of a tensor that only the master has."""
        return self._whole_on(name, frozenset({self.devices}))

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
            if len(grown.replicated) > 1 and not self._equally_fast(grown.replicated):
                last = grown.compute_seconds[-1]
                grown.relief_seconds = float(last.max() - last[sorted(grown.replicated)].min())

    def _equally_fast(self, devices: frozenset[int]) -> bool:
        """Whether all of some devices take the same time for every work."""
        seconds = self.steps.work_seconds[:, sorted(devices)]
        return bool((seconds == seconds[:, :1]).all())


def _active(shares: Sequence[float]) -> frozenset[int]:
    return frozenset(device for device, share in enumerate(shares) if share > 0)
