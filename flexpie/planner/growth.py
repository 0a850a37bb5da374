"""Grows segments backwards from every place where one can end, in every candidate division."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import REPLICATED, owned_regions
from flexpie.planner.boxes import Indices, Mask, boxes_of, distinct
from flexpie.planner.candidates import Candidate
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.layouts import NOTHING
from flexpie.planner.steps import LayerSteps, WorkSeconds

LONGEST_SEGMENT = 64
"""Layers after which growth ends where nothing else ends it: it bounds the table of very deep graphs. With more than 8
devices, on which less is left to each, it is less in proportion."""
_FEW_LAYERS = 8
"""But never less than this."""
_PATIENCE = 4
"""Cuts at which all is replicated that growth passes in search of one where a split is proven to lose nothing."""
_MOST_ADDED_SETS = 4
"""Sets of devices, beyond those of the given candidates, for which a replicated candidate is added."""


@dataclass
class Rows:
    """The segments that begin at one cut, one of each of N chains."""

    chains: Indices
    """[N]"""
    needs: Indices
    """Layout in which each segment needs each live tensor, [N, T]; `NOTHING` where it does not read it."""
    compute_seconds: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[N, devices]"""
    weight_bytes: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[N, devices]"""


@dataclass
class Chains:
    """What segments grow from: C ends of segments, each with a division of what is live there."""

    stop: Indices
    """Cut at which the segments of each chain end, [C]."""
    choice: Indices
    """Which of the starts at that cut, [C]."""
    first: Indices
    """First layer of the longest segment of each chain, [C]."""
    replicated: Indices
    """Set of devices that each need all of everything in front of the longest segment, [C]; `NOTHING` if growth ended
    otherwise."""


@dataclass(frozen=True)
class Start:
    """What the chains that start at one cut have in common; arrays of shape [chains] per tensor."""

    candidates: tuple[int, ...]
    """Candidate of each chain."""
    owned: Mapping[str, Indices]
    """Layouts that live tensors have at the end of a segment that produces them."""
    wanted: Mapping[str, Indices] = field(default_factory=dict)
    """Layouts that are wanted of live tensors in any case."""


_NO_START = Start((), {})


@dataclass(frozen=True)
class Grown:
    """All segments of some chains."""

    chains: Chains
    rows: tuple[Rows, ...]
    """Per cut; none begin at the last."""
    computed: tuple[Indices, ...]
    """Per cut: layout that a chain's devices compute of each live tensor, for those that its segments produce,
    [chains there, T]; `NOTHING` for the others."""


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
    it is at most max c2 − min over A of c2, the relief; see `flexpie.planner.extension`.

    All chains grow together, layer by layer from the last to the first.
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
        self.work_seconds = WorkSeconds(self.steps, model)
        longest = max(_FEW_LAYERS, LONGEST_SEGMENT * 8 // max(8, devices))
        self._max_layers = longest if max_layers is None else max_layers
        self.candidates = candidates if max_layers is not None else self._with_arising_sets(candidates)
        alone = {_active(shares) for scheme, shares in self.candidates if scheme.device is not None}
        together = {_active(shares) for scheme, shares in self.candidates if scheme == REPLICATED}
        self.sets = sorted(alone | together, key=sorted)
        """Sets of devices that some candidate lets compute everything."""
        self.complete = max_layers is None
        """Whether no segment is missing that could be of use."""
        self.starts: list[Start] = [_NO_START] * (len(graph.layers) + 1)
        """Per cut: the candidates that divide what is live there differently."""
        self._wholes: dict[str, Indices] = {}
        self._owned: dict[object, Indices] = {}

    # ----------------------------------------------------------------------------------------- candidates

    def _owned_layouts(self, name: str) -> Indices:
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

    def _start(self, stop: int) -> Start:
        """The candidates that divide the live tensors in front of layer `stop` differently."""
        names = [name for name in self.graph.live_after(stop) if name in self.graph.producer]
        if not names:
            return Start((0,), {})
        layouts = np.stack([self._owned_layouts(name) for name in names], axis=1)
        first, _ = distinct(layouts)
        return Start(tuple(first.tolist()), {name: layouts[first, at] for at, name in enumerate(names)})

    # --------------------------------------------------------------------------------------------- growth

    def grow_all(self, splits: bool = True) -> Grown:
        """The segments that end at every cut, per distinct candidate. None end at the first cut.

        Parameters
        ----------
        splits: whether growth stops where longer segments can be split without loss.
        """
        layers = len(self.graph.layers)
        self.starts = [_NO_START, *(self._start(stop) for stop in range(1, layers + 1))]
        run = _Run(self, self.starts, self._max_layers, splits)
        grown = run.grown()
        self.complete = self.complete and run.complete
        return grown

    def grow_whole(self, places: Mapping[int, Sequence[int]]) -> Grown:
        """What each of some sets of devices computes that has everything live at a cut whole; `places` are the numbers
        of the sets, by cut."""
        starts = [_NO_START] * (len(self.graph.layers) + 1)
        for cut, numbers in places.items():
            wanted = {name: self.wholes(name)[list(numbers)] for name in self.graph.live_after(cut)}
            starts[cut] = Start(tuple(numbers), {}, wanted)
        return _Run(self, starts, self._max_layers, splits=False).grown()

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

    def weights_onward(self) -> Array:
        """Bytes of weights that the layers behind each cut need together, when each is computed once, [cuts]."""
        needed = [0.0]
        for layer in range(len(self.graph.layers) - 1, -1, -1):
            step = self.whole_steps(layer)[0]
            needed.append(needed[-1] + float(self.steps.of_layer(layer).weight_bytes[step].max()))
        return np.array(needed[::-1])

    def slowest(self, number: int) -> int | None:
        """The one of a set of devices that is the slowest for every work; None where that depends on the work."""
        devices = sorted(self.sets[number])
        seconds = self.work_seconds.seconds[:, devices]
        slowest = np.nonzero((seconds == seconds.max(axis=1, keepdims=True)).all(axis=0))[0]
        return devices[slowest[0]] if len(slowest) else None

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


class _Run:
    """One pass over the layers, from the last to the first, in which all chains grow."""

    def __init__(self, growth: Growth, starts: Sequence[Start], max_layers: int, splits: bool) -> None:
        self.growth, self.graph, self.steps = growth, growth.graph, growth.steps
        self._starts, self._max_layers, self._splits = starts, max_layers, splits
        self.complete = True
        """Whether no chain ended but where it can be split without loss, or at the first layer."""
        counts = [len(start.candidates) for start in starts]
        cuts = range(len(starts) - 1, -1, -1)
        self.chains = Chains(
            stop=np.repeat(list(cuts), counts[::-1]),
            choice=np.concatenate([np.arange(counts[cut]) for cut in cuts]),
            first=np.zeros(sum(counts), dtype=np.int64),
            replicated=np.full(sum(counts), NOTHING, dtype=np.int64),
        )
        self._patience = np.full(sum(counts), _PATIENCE)
        self._begun = 0
        self._active = np.zeros(0, dtype=np.int64)
        """Chains that still grow."""
        self._wanted: dict[str, Indices] = {}
        self._owned: dict[str, Indices] = {}
        """Per tensor and active chain."""
        self._taken: list[tuple[Indices, Indices]] = []
        """Active chains and their steps, from the last layer on."""
        self._computed = [
            np.full((counts[cut], len(self.graph.live_after(cut))), NOTHING, dtype=np.int64)
            for cut in range(len(starts))
        ]

    def grown(self) -> Grown:
        """Grow, and ask for the costs."""
        rows: list[Rows] = []
        for layer in range(len(self.graph.layers) - 1, -1, -1):
            self._begin(self._starts[layer + 1])
            self._take_in(layer)
            live = self.graph.live_after(layer)
            needs = [self._wanted.get(name, self._nothing()) for name in live]
            rows.append(Rows(self._active, np.array(needs, dtype=np.int64).reshape(len(live), -1).T))
            self._end_chains(layer)
        self._fill_costs(rows)
        return Grown(self.chains, tuple(reversed(rows)), tuple(self._computed))

    def _nothing(self) -> Indices:
        return np.full(len(self._active), NOTHING, dtype=np.int64)

    def _begin(self, start: Start) -> None:
        """Let the chains that start at a cut grow too."""
        before, count = len(self._active), len(start.candidates)
        self._active = np.concatenate((self._active, np.arange(self._begun, self._begun + count)))
        self._begun += count
        for state, fresh in ((self._wanted, start.wanted), (self._owned, start.owned)):
            for name in {**state, **fresh}:
                values = self._nothing()
                values[:before] = state.get(name, NOTHING)
                values[before:] = fresh.get(name, NOTHING)
                state[name] = values

    def _take_in(self, layer: int) -> None:
        """Make all active chains' segments one layer longer."""
        steps, results, nothing = self.steps, self.steps.results[layer], self._nothing()
        asked = np.full((len(nothing), len(results)), NOTHING, dtype=np.int64)
        for slot, name in enumerate(results):
            wanted, owned = self._wanted.pop(name, nothing), self._owned.pop(name, nothing)
            asked[:, slot] = steps.kind(name).hulls(wanted, owned)
        numbers = steps.numbers(layer, asked) if results else nothing
        found = steps.of_layer(layer)
        for slot, name in enumerate(steps.activations[layer]):
            needed = found.needed[numbers, slot]
            self._wanted[name] = steps.kind(name).hulls(self._wanted.get(name, nothing), needed)
        for slot, name in enumerate(results):
            self._note_computed(name, found.computed[numbers, slot])
        self._taken.append((self._active, numbers))

    def _note_computed(self, name: str, computed: Indices) -> None:
        """Remember what chains compute of a tensor that is live where they start."""
        stops = self.chains.stop[self._active]
        for stop in range(self.graph.producer[name] + 1, min(self.graph.last_use(name), len(self.graph.layers)) + 1):
            begin, end = np.searchsorted(-stops, (-stop, -stop + 1))  # active chains come in order of falling stops
            if begin < end:
                slot = self.graph.live_after(stop).index(name)
                self._computed[stop][self.chains.choice[self._active[begin:end]], slot] = computed[begin:end]

    # ----------------------------------------------------------------------------------------- their ends

    def _end_chains(self, cut: int) -> None:
        """Let those grow no further that reached the first layer, are long enough, or can be split in front of it."""
        active, chains = self._active, self.chains
        if cut == 0:
            chains.first[active] = 0
            return
        ended = chains.stop[active] - cut >= self._max_layers
        if self._splits:
            sets = self._replicated_on(cut)
            split = self._split_without_loss(cut, sets)
            chains.replicated[active[split]] = sets[split]
            self._patience[active] -= (sets != NOTHING) & ~split
            ended |= self._patience[active] == 0
        else:
            split = np.zeros(len(active), dtype=np.bool_)
        self.complete = self.complete and not (ended & ~split).any()
        ended |= split
        chains.first[active[ended]] = cut
        self._active = active[~ended]
        for state in (self._wanted, self._owned):
            for name, values in state.items():
                state[name] = values[~ended]

    def _replicated_on(self, cut: int) -> Indices:
        """Per active chain, the set of devices that each need all of every tensor that is live at a cut, if nobody
        else needs anything; else `NOTHING`."""
        live = self.graph.live_after(cut)
        if not live or not self.growth.sets or any(name not in self._wanted for name in live):
            return self._nothing()
        alike = np.ones((len(self._active), len(self.growth.sets)), dtype=np.bool_)
        for name in live:
            alike &= self._wanted[name][:, None] == self.growth.wholes(name)
        return np.where(alike.any(axis=1), alike.argmax(axis=1), NOTHING)

    def _split_without_loss(self, cut: int, sets: Indices) -> Mask:
        """For which active chains what is live at a cut is there after any segment that ends there and is replicated
        on the chain's set of devices, and is sent by the same devices later on."""
        found: Mask = sets != NOTHING
        if not found.any():
            return found
        growth, layer = self.growth, cut - 1
        for name in self.graph.live_after(cut):
            if self.graph.producer.get(name) != layer:
                found &= self._reads_all(layer, name)[sets]
            if name in self._owned:
                owned, kind = self._owned[name], self.steps.kind(name)
                rows = np.nonzero(found & (owned != NOTHING))[0]
                devices = [growth.sets[number] for number in sets[rows].tolist()]
                everywhere = name not in self.graph.outputs
                exempt = np.array([everywhere and len(some) == growth.devices for some in devices], dtype=np.bool_)
                same = kind.sources(owned[rows]) == kind.sources(growth.wholes(name)[sets[rows]])
                found[rows] = exempt | same
        return found

    def _reads_all(self, layer: int, name: str) -> Mask:
        """Whether a layer, computed whole by each of some sets of devices, reads all of a tensor, [sets]."""
        activations = self.steps.activations[layer]
        if name not in activations:
            return np.zeros(len(self.growth.sets), dtype=np.bool_)
        steps = self.growth.whole_steps(layer)
        needed = self.steps.of_layer(layer).needed[steps, activations.index(name)]
        found: Mask = needed == self.growth.wholes(name)
        return found

    # ---------------------------------------------------------------------------------------------- costs

    def _fill_costs(self, rows: Sequence[Rows]) -> None:
        seconds = self.growth.work_seconds
        seconds.refresh()
        total = np.zeros((len(self.chains.stop), self.growth.devices))
        weights = np.zeros_like(total)
        layers = range(len(self.graph.layers) - 1, -1, -1)
        for layer, row, (chains, numbers) in zip(layers, rows, self._taken, strict=True):
            total[chains] += seconds.of_layer(layer)[numbers]
            weights[chains] += self.steps.of_layer(layer).weight_bytes[numbers]
            row.compute_seconds, row.weight_bytes = total[chains], weights[chains]


def _active(shares: Sequence[float]) -> frozenset[int]:
    return frozenset(device for device, share in enumerate(shares) if share > 0)
