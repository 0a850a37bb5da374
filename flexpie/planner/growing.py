"""One pass over the layers, from the last to the first, in which chains of segments grow backwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexpie.planner.boxes import Indices, Mask
from flexpie.planner.chains import ANYBODY, Chains, Grown, Rows, Start
from flexpie.planner.divisions import Divisions
from flexpie.planner.layouts import NOTHING

_PATIENCE = 4
"""Cuts at which all is replicated that growth passes in search of one where a split is proven to lose nothing."""


class Growing:
    """One pass over the layers, from the last to the first, in which all chains grow."""

    def __init__(self, growth: Divisions, starts: Sequence[Start], max_layers: int, splits: bool) -> None:
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
            given_up=np.full(sum(counts), NOTHING, dtype=np.int64),
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
        sets = self._replicated_on(cut)
        if self._splits:
            split = self._split_without_loss(cut, sets)
            chains.replicated[active[split]] = sets[split]
            self._patience[active] -= (sets != NOTHING) & ~split
            ended |= self._patience[active] == 0
        else:
            split = np.zeros(len(active), dtype=np.bool_)
        given_up = ended & ~split
        chains.given_up[active[given_up]] = np.where(sets == NOTHING, ANYBODY, sets)[given_up]
        self.complete = self.complete and not given_up.any()
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
