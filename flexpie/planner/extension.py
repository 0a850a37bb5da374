"""Adds the segments beyond the end of growth that unequal devices can make worth while.

A segment that begins with layers which unequal devices all compute whole saves a little over its split: the slowest
device of the one part need not be the slowest of the other (see `flexpie.planner.growth`). Few such segments can be
part of a best plan, as replicating layers on slow devices is dear: they are those that, by lower bounds of the time
before and behind them, may still beat a plan that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flexpie.planner.bounds import Bounds
from flexpie.planner.boxes import Indices, Mask
from flexpie.planner.chains import Grown, Rows
from flexpie.planner.cost import Array
from flexpie.planner.growth import Growth
from flexpie.planner.layouts import NOTHING
from flexpie.planner.table import CostTable, assemble, reliefs

_GAIN_SECONDS = 1e-12
"""Less is rounding."""


def extended(table: CostTable, bounds: Bounds, prices: Sequence[float] | None, upper: float) -> CostTable:
    """The table with all longer segments that may be part of a plan that costs less than `upper`."""
    return _Extension(table, bounds, prices, upper).table()


class _Extension:
    """Puts prefixes, which are layers that a set of devices computes whole, in front of the chains that ended where
    such a set needs everything."""

    def __init__(self, table: CostTable, bounds: Bounds, prices: Sequence[float] | None, upper: float) -> None:
        self.before, self.bounds, self.upper = table, bounds, upper
        self.growth: Growth = table.growth
        self.prices = np.zeros(self.growth.devices) if prices is None else np.asarray(prices, dtype=np.float64)
        chains = table.grown.chains
        relief = reliefs(self.growth, table.grown)
        self.waiting = np.nonzero(relief > 0)[0]
        """Chains that may be worth extending."""
        self.ends, self.sets = chains.first[self.waiting], chains.replicated[self.waiting]
        places: dict[int, tuple[int, ...]] = {}
        for cut in sorted(set(self.ends.tolist())):
            places[cut] = tuple(sorted(set(self.sets[self.ends == cut].tolist())))
        self.prefixes = self.growth.grow_whole(places)
        index = {
            (int(stop), places[int(stop)][choice]): at
            for at, (stop, choice) in enumerate(
                zip(self.prefixes.chains.stop, self.prefixes.chains.choice, strict=True)
            )
        }
        pairs = zip(self.ends.tolist(), self.sets.tolist(), strict=True)
        self.prefix_of = np.array([index[pair] for pair in pairs], dtype=np.int64)
        offsets = np.array(table.offsets, dtype=np.int64)
        self.behind = bounds.onward[offsets[chains.stop[self.waiting]] + chains.choice[self.waiting]]
        self.seconds, self.weights = (np.zeros((len(self.waiting), self.growth.devices)) for _ in range(2))
        for cut in places:
            here, rows = np.nonzero(self.ends == cut)[0], table.grown.rows[cut]
            at = np.searchsorted(rows.chains, self.waiting[here])
            self.seconds[here], self.weights[here] = rows.compute_seconds[at], rows.weight_bytes[at]

    def table(self) -> CostTable:
        """See `extended`."""
        grown = self.before.grown
        first = grown.chains.first.copy()
        rows = [self._joined(cut, first) for cut in range(len(grown.rows))]
        chains = replace(grown.chains, first=first)
        extended_grown = Grown(chains, tuple(rows), self._computed(first))
        self.growth.complete = self.growth.complete and self._all_seen()
        return assemble(self.growth, extended_grown, rows, np.zeros(len(first)))

    def _joined(self, cut: int, first: Indices) -> Rows:
        """The segments that begin at a cut, with those of the extended ones that may be of use; notes in `first` what
        is the longest of their chains."""
        known, added = self.before.grown.rows[cut], self.prefixes.rows[cut]
        at = np.searchsorted(added.chains, self.prefix_of)
        alive = at < len(added.chains)
        alive[alive] = added.chains[at[alive]] == self.prefix_of[alive]
        here, at = np.nonzero(alive)[0], at[alive]
        if not len(here):
            return known
        seconds = added.compute_seconds[at] + self.seconds[here]
        weights = added.weight_bytes[at] + self.weights[here]
        fused = seconds.max(axis=1)
        split = added.compute_seconds[at].max(axis=1) + self.seconds[here].max(axis=1)
        least = self._arriving(cut)[at] + fused + weights @ self.prices + self.behind[here]
        useful: Mask = (fused < split - _GAIN_SECONDS) & (least <= self.upper)
        if not useful.any():
            return known
        chosen = self.waiting[here[useful]]
        first[chosen] = np.minimum(first[chosen], cut)
        chains = np.concatenate((known.chains, chosen))
        order = np.argsort(chains, kind="stable")
        return Rows(
            chains[order],
            np.concatenate((known.needs, added.needs[at[useful]]))[order],
            np.concatenate((known.compute_seconds, seconds[useful]))[order],
            np.concatenate((known.weight_bytes, weights[useful]))[order],
        )

    def _arriving(self, cut: int) -> Array:
        """Least cost until a prefix that begins at a cut has its inputs, per prefix there."""
        table, position, needs = self.before, self.before.cuts[cut], self.prefixes.rows[cut].needs
        if cut == 0:
            return table.joint_seconds(0, np.repeat(position.holdings, len(needs), axis=0), needs)
        reached = self.bounds.arriving[table.of_cut(cut)][:, None]
        if position.main < 0:
            return np.repeat(reached.min(), len(needs))
        slot = position.main
        found: Array = (reached + table.alone_seconds(cut, slot, position.holdings[:, slot], needs[:, slot])).min(
            axis=0
        )
        return found

    def _computed(self, first: Indices) -> tuple[Indices, ...]:
        """What chains compute of each live tensor, the prefixes of the extended ones included."""
        graph, chains, prefixes = self.growth.graph, self.before.grown.chains, self.prefixes
        found = [array.copy() for array in self.before.grown.computed]
        for at in np.nonzero(first[self.waiting] < self.ends)[0].tolist():
            chain, cut = self.waiting[at], int(self.ends[at])
            choice = prefixes.chains.choice[self.prefix_of[at]]
            live = graph.live_after(cut)
            for slot, name in enumerate(graph.live_after(int(chains.stop[chain]))):
                if first[chain] <= graph.producer.get(name, -1) < cut:
                    computed = prefixes.computed[cut][choice, live.index(name)]
                    found[chains.stop[chain]][chains.choice[chain], slot] = computed
        return tuple(found)

    def _all_seen(self) -> bool:
        """Whether no longer prefix can be of use than those that were grown."""
        for at, first in enumerate(self.prefixes.chains.first.tolist()):
            if first == 0:
                continue
            rows = self.prefixes.rows[first]
            row = int(np.searchsorted(rows.chains, at))
            waiting = self.prefix_of == at
            number = int(self.sets[waiting][0])
            names = self.growth.graph.live_after(first)
            wholes = np.array([self.growth.wholes(name)[number] for name in names], dtype=np.int64)
            steady = self.growth.slowest(number) is not None
            steady = steady and bool(((rows.needs[row] == wholes) | (rows.needs[row] == NOTHING)).all())
            least = self._arriving(first)[row] + rows.compute_seconds[row].max() + self.behind[waiting].min()
            if not steady or least + float(rows.weight_bytes[row] @ self.prices) <= self.upper:
                return False  # with one device always the slowest, a longer prefix never costs less
        return True
