"""Adds the segments beyond the end of growth that unequal devices can make worth while.

A segment that begins with layers which unequal devices all compute whole saves a little over its split: the slowest
device of the one part need not be the slowest of the other (see `flexpie.planner.growth`). Few such segments can be
part of a best plan, as replicating layers on slow devices is dear: they are those that, by lower bounds of the time
before and behind them, may still beat a plan that is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.planner.bounds import Bounds
from flexpie.planner.cost import Array
from flexpie.planner.growth import Grown, Growth
from flexpie.planner.layouts import NOTHING
from flexpie.planner.table import CostTable, assemble

_GAIN_SECONDS = 1e-12
"""Less is rounding."""


def extended(table: CostTable, bounds: Bounds, prices: Sequence[float] | None, upper: float) -> CostTable:
    """The table with all longer segments that may be part of a plan that costs less than `upper`."""
    return _Extension(table, bounds, prices, upper).table()


@dataclass
class _Prefix:
    """The layers in front of a cut, computed whole by a set of devices: what a segment can have in addition."""

    grown: Grown
    seconds: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[firsts, devices]"""
    weight_bytes: Array = field(default_factory=lambda: np.zeros((0, 0)))
    arriving: Array = field(default_factory=lambda: np.zeros(0))
    """Least cost until the devices have what the prefix needs, [firsts]."""


class _Extension:
    def __init__(self, table: CostTable, bounds: Bounds, prices: Sequence[float] | None, upper: float) -> None:
        self.table_before, self.bounds, self.upper = table, bounds, upper
        self.growth: Growth = table.growth
        self.prices = np.zeros(self.growth.devices) if prices is None else np.asarray(prices, dtype=np.float64)

    def table(self) -> CostTable:
        """See `extended`."""
        rows: dict[tuple[int, frozenset[int]], list[tuple[int, int]]] = defaultdict(list)
        for stop, choices in enumerate(self.table_before.grown):
            for choice, grown in enumerate(choices):
                if grown.relief_seconds > 0:
                    rows[grown.firsts[-1], grown.replicated].append((stop, choice))
        everything = [list(choices) for choices in self.table_before.grown]
        for (cut, devices), places in rows.items():
            prefix = self._prefix(cut, devices)
            for stop, choice in places:
                everything[stop][choice] = self._joined(prefix, stop, choice)
        return assemble(self.growth, everything)

    def _prefix(self, cut: int, devices: frozenset[int]) -> _Prefix:
        """Grow the prefix as long as some plan with it may cost less than `upper`."""
        growth, active = self.growth, sorted(devices)
        prefix = _Prefix(Grown(NOTHING))
        grown = prefix.grown
        grown.wanted = {name: growth.whole_on(name, devices) for name in growth.graph.live_after(cut)}
        steady = growth.slowest(devices) is not None
        seconds, weights = np.zeros(growth.devices), np.zeros(growth.devices)
        all_seconds, all_weights, arriving = [], [], []
        behind = float(self.bounds.onward[cut].min())
        for first in range(cut - 1, -1, -1):
            growth.take_in(grown, first, {})
            if grown.steps[-1] != NOTHING:
                seconds = seconds + growth.steps.seconds(growth.model)[grown.steps[-1]]
                weights = weights + growth.steps.weights_of(grown.steps[-1])
            arriving.append(self._arriving(first, grown))
            all_seconds.append(seconds)
            all_weights.append(weights)
            steady = steady and all(layout == growth.whole_on(name, devices) for name, layout in grown.wanted.items())
            least = arriving[-1] + seconds[active].max() + float(weights @ self.prices) + behind
            if steady and least > self.upper:
                break  # with one device always the slowest, a longer prefix never costs less
        prefix.seconds, prefix.weight_bytes = np.array(all_seconds), np.array(all_weights)
        prefix.arriving = np.array(arriving)
        return prefix

    def _arriving(self, first: int, grown: Grown) -> float:
        """Least cost until a segment that begins at `first` has its inputs."""
        table, cut = self.table_before, self.table_before.cuts[first]
        if first == 0:
            return 0.0
        reached = self.bounds.arriving[first]
        if cut.main >= 0:
            need = grown.wanted.get(self.growth.graph.live_after(first)[cut.main], NOTHING)
            holdings = cut.holdings[:, cut.main]
            reached = reached + table.alone_seconds(first, cut.main, holdings, np.array([need]))[:, 0]
        return float(reached.min())

    def _joined(self, prefix: _Prefix, stop: int, choice: int) -> Grown:
        """A row of segments with those of its extensions that may be of use."""
        grown = self.table_before.grown[stop][choice]
        seconds = prefix.seconds + grown.compute_seconds[-1]
        weights = prefix.weight_bytes + grown.weight_bytes[-1]
        fused = seconds.max(axis=1)
        split = prefix.seconds.max(axis=1) + grown.compute_seconds[-1].max()
        least = prefix.arriving + fused + weights @ self.prices + self.bounds.onward[stop][choice]
        useful = np.nonzero((fused < split - _GAIN_SECONDS) & (least <= self.upper))[0]
        if not len(useful):
            return grown
        longest = int(useful[-1])
        firsts = prefix.grown.firsts
        owned = self.growth.distinct_candidates(stop)[choice][1]
        holdings = {
            name: self.growth.produced_holding(name, owned[name], layout)
            for name, layout in prefix.grown.computed.items()
            if name in owned and self.growth.graph.producer[name] >= firsts[longest]
        }
        return Grown(
            candidate=grown.candidate,
            firsts=[*grown.firsts, *(firsts[at] for at in useful)],
            needs=[*grown.needs, *(prefix.grown.needs[at] for at in useful)],
            holdings=grown.holdings | holdings,
            compute_seconds=np.concatenate((grown.compute_seconds, seconds[useful])),
            weight_bytes=np.concatenate((grown.weight_bytes, weights[useful])),
        )
