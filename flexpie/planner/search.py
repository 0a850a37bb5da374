"""Dynamic programming over cuts and the holdings of the tensors that are live there, on arrays of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.plan import Segment
from flexpie.planner.bounds import Bounds, following, lower_bounds, main_exchange_seconds
from flexpie.planner.cost import Array
from flexpie.planner.extension import extended
from flexpie.planner.layouts import NOTHING, Indices
from flexpie.planner.table import CostTable, Cut

SCOUT_STATES = 4
"""States per cut of the first sweep, which only looks for a good plan. On ResNet-101 its plan is the best one
already, on BERT-base it is within 0.7 % of what 128 states find."""
MOST_TRANSITIONS = 150_000
"""Steps from state to state that the second sweep may take; the search is exact unless it needs more."""
FALLBACK_STATES = 8
"""States per cut for the rest of the second sweep once it has taken so many steps."""
SEGMENT_SECONDS = 1e-9
"""Added per segment: of plans that are equally fast, the one with fewer segments is preferred."""
_SLACK = 1e-10
"""Relative; sums in another order differ by less."""


@dataclass(frozen=True)
class SearchResult:
    """The best sequence of segments."""

    segments: tuple[Segment, ...]
    seconds: float
    """Their cost: predicted seconds plus prices, and `SEGMENT_SECONDS` per segment."""
    exact: bool
    """Whether no plan is better: no state was dropped for lack of room, and no segment is missing."""


@dataclass(frozen=True, slots=True)
class _State:
    seconds: float
    choice: int
    """Position in the cut's candidates of the one that divides the main tensor."""
    parent: tuple[int, tuple[int, ...]] | None
    """Cut and holdings of the state before."""
    row: int
    """Segment between the two."""


Holdings = tuple[int, ...]
"""Holding of each live tensor: with the cut, a state of the search."""


def search(
    table: CostTable, weight_prices: Sequence[float] | None = None, most_transitions: int = MOST_TRANSITIONS
) -> SearchResult:
    """The cheapest way through a table.

    Parameters
    ----------
    weight_prices: seconds per byte of weights, per device; none by default.
    most_transitions: steps after which only the most promising states of each cut are followed.

    A first sweep with few states finds a good plan. The second drops only states that cannot beat it, by
    `flexpie.planner.bounds`, and so finds the best; where devices are unequal it has more segments to choose from.
    """
    costs = tuple(_segment_seconds(cut, weight_prices) for cut in table.cuts)
    bounds = lower_bounds(table, costs)
    scout = _Sweep(table, costs, bounds, 0, SCOUT_STATES, math.inf)
    result = scout.run()
    assert result is not None, "some candidate ends at every cut"
    longer = any(cut.relief_seconds.any() for cut in table.cuts)
    if not longer and not scout.dropped:
        return SearchResult(result.segments, result.seconds, table.complete)
    if longer:
        table = extended(table, bounds, weight_prices, result.seconds)
        costs = tuple(_segment_seconds(cut, weight_prices) for cut in table.cuts)
    sweep = _Sweep(table, costs, bounds, most_transitions, FALLBACK_STATES, result.seconds)
    better = sweep.run()
    if better is not None and better.seconds < result.seconds:
        result = better
    return SearchResult(result.segments, result.seconds, table.complete and not sweep.dropped)


def _segment_seconds(cut: Cut, prices: Sequence[float] | None) -> Array:
    seconds: Array = cut.compute_seconds.max(axis=1) if len(cut.stop) else np.zeros(0)
    seconds = seconds + SEGMENT_SECONDS
    if prices is not None and any(prices):
        seconds = seconds + cut.weight_bytes @ np.asarray(prices, dtype=np.float64)
    return seconds


class _Sweep:
    """One forward pass over all cuts."""

    def __init__(
        self,
        table: CostTable,
        costs: tuple[Array, ...],
        bounds: Bounds,
        transitions: int,
        fallback_states: int,
        upper: float,
    ) -> None:
        self.table, self.costs, self.bounds = table, costs, bounds
        self.transitions, self.fallback_states = transitions, fallback_states
        self.upper = upper * (1 + _SLACK)
        self.dropped = False
        self.states: list[dict[Holdings, _State]] = [{} for _ in table.cuts]
        self._carried: dict[tuple[int, int], list[int]] = {}

    def run(self) -> SearchResult | None:
        """The best way found that costs at most `upper`; None if there is none."""
        first = self.table.cuts[0]
        self.states[0][tuple(int(number) for number in first.holdings[0])] = _State(0.0, 0, None, -1)
        for position in range(len(self.table.cuts) - 1):
            kept = self._most_promising(position)
            if kept:
                self._expand(position, kept)
        return self._best_end()

    def _most_promising(self, position: int) -> list[tuple[Holdings, _State]]:
        onward = self.bounds.onward[position]
        ranked = list(self.states[position].items())
        if self.transitions <= 0 and len(ranked) > self.fallback_states:
            ranked.sort(key=lambda item: item[1].seconds + onward[item[1].choice])
            self.dropped = True
            ranked = ranked[: self.fallback_states]
        return ranked

    def _expand(self, position: int, kept: list[tuple[Holdings, _State]]) -> None:
        """Try every segment after every state, but for those that the bounds exclude."""
        cut = self.table.cuts[position]
        holdings = np.array([key for key, _ in kept], dtype=np.int64).reshape(len(kept), len(cut.tensors))
        seconds = np.array([state.seconds for _, state in kept])
        choices = np.array([state.choice for _, state in kept])
        exchange = main_exchange_seconds(self.table, position)[choices]
        ahead = following(self.table, self.bounds.onward, position)
        segment_costs = self.costs[position]
        bound = seconds[:, None] + exchange + (segment_costs - cut.relief_seconds + ahead)
        chosen, rows = np.nonzero(bound <= self.upper)
        for slot in range(len(cut.tensors)):
            if slot != cut.main and len(rows):
                alone = self.table.alone_seconds(position, slot, holdings[:, slot], cut.needs[:, slot])
                exchange = np.maximum(exchange, alone)
        bound = seconds[:, None] + exchange + (segment_costs - cut.relief_seconds + ahead)
        keep = bound[chosen, rows] <= self.upper
        chosen, rows = chosen[keep], rows[keep]
        total = seconds[chosen] + self._exchange_seconds(cut, holdings, exchange, chosen, rows) + segment_costs[rows]
        passed = total - cut.relief_seconds[rows] + ahead[rows] <= self.upper
        self.transitions -= int(passed.sum())
        for at in np.nonzero(passed)[0]:
            key, _ = kept[chosen[at]]
            self._reach(position, key, int(rows[at]), float(total[at]))

    def _exchange_seconds(self, cut: Cut, holdings: Indices, alone: Array, chosen: Indices, rows: Indices) -> Array:
        """Seconds of the exchange in front of each chosen pair of state and segment.

        Where a segment reads one live tensor they are known (`alone`); else the bytes of its tensors are added up.
        """
        result: Array = alone[chosen, rows]
        read = cut.needs[rows] != NOTHING
        several = np.nonzero(read.sum(axis=1) > 1)[0]
        if len(several):
            held = np.where(read, holdings[chosen], NOTHING)[several]
            both = np.hstack((held, cut.needs[rows[several]]))
            questions, where = np.unique(both, axis=0, return_inverse=True)
            asked_holdings, asked_needs = np.hsplit(questions, 2)
            result[several] = self._sum_seconds(cut, asked_holdings, asked_needs)[where.reshape(-1)]
        return result

    def _sum_seconds(self, cut: Cut, holdings: Indices, needs: Indices) -> Array:
        """Seconds of exchanges of several tensors at once; holdings and needs have shape [questions, T]."""
        nbytes: Array | float = 0.0
        for slot, number in enumerate(cut.kinds):
            kind = self.table.kinds[number]
            asked = np.nonzero(needs[:, slot] != NOTHING)[0]
            if len(asked):
                added = np.zeros((len(needs), kind.ends, kind.ends))
                added[asked] = kind.nbytes(holdings[asked, slot], needs[asked, slot])
                nbytes = nbytes + added
        return self.table.model.exchange_seconds(np.asarray(nbytes))

    def _reach(self, position: int, key: Holdings, row: int, seconds: float) -> None:
        cut = self.table.cuts[position]
        stop, choice = int(cut.stop[row]), int(cut.choice[row])
        after = self.table.cuts[stop]
        produced, needs = after.holdings[choice], cut.needs[row]
        reached = []
        for slot, before in enumerate(self._carried_slots(position, stop)):
            if before == NOTHING:
                reached.append(int(produced[slot]))
            elif needs[before] == NOTHING:
                reached.append(key[before])
            else:
                kind = self.table.kinds[cut.kinds[before]]
                reached.append(kind.received(key[before], int(needs[before])))
        target = tuple(reached)
        known = self.states[stop].get(target)
        if known is None or seconds < known.seconds:
            self.states[stop][target] = _State(seconds, choice, (position, key), row)

    def _carried_slots(self, position: int, stop: int) -> list[int]:
        """For each tensor that is live at `stop`: its slot at `position`, or NOTHING if it is produced between."""
        key = (position, stop)
        if key not in self._carried:
            slots = {tensor: slot for slot, tensor in enumerate(self.table.cuts[position].tensors)}
            after = self.table.cuts[stop]
            self._carried[key] = [
                NOTHING if producer >= position else slots[tensor]
                for tensor, producer in zip(after.tensors, after.producers, strict=True)
            ]
        return self._carried[key]

    def _best_end(self) -> SearchResult | None:
        last = len(self.table.cuts) - 1
        best: tuple[float, Holdings] | None = None
        for key, state in self.states[last].items():
            total = state.seconds + self._gather_seconds(key)
            if best is None or total < best[0]:
                best = (total, key)
        if best is None or best[0] > self.upper:
            return None
        segments = []
        position, key = last, best[1]
        while (state := self.states[position][key]).parent is not None:
            position, key = state.parent
            segments.append(self.table.segment(position, state.row))
        return SearchResult(tuple(reversed(segments)), best[0], not self.dropped)

    def _gather_seconds(self, key: Holdings) -> float:
        if not key:
            return 0.0
        holdings = np.array([key], dtype=np.int64)
        return float(self._sum_seconds(self.table.cuts[-1], holdings, self.table.gather[None])[0])
