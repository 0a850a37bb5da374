"""One forward pass over the cuts of a cost table, which keeps the cheapest way to each state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flexpie.core.plan import Segment
from flexpie.planner.bounds import Bounds, following, main_exchange_seconds
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING, Indices
from flexpie.planner.table import CostTable, Cut

MOST_STATES = 1000
"""States that are followed from one cut at most."""
STEPS_PER_STATE = 16
"""Steps from each of the most promising states of a cut, on average, where not all are taken."""
_TOGETHER = 2048
"""Ends of which the seconds of bringing outputs to the master are added up at once."""
_SLACK = 1e-10
"""Relative; sums in another order differ by less."""

Holdings = tuple[int, ...]
"""Holding of each live tensor."""
Used = tuple[int, ...]
"""Bytes of weights so far, per device; empty where no budget limits them."""
Key = tuple[Holdings, Used]
"""With the cut, a state of the search."""


@dataclass(frozen=True, slots=True)
class State:
    """The cheapest way found to a state."""

    seconds: float
    choice: int
    """Position in the cut's candidates of the one that divides the main tensor."""
    parent: tuple[int, Key] | None
    """Cut and key of the state before."""
    row: int
    """Segment between the two."""


@dataclass(frozen=True)
class Limits:
    """How much a sweep looks at."""

    upper: float = math.inf
    """Nothing that is bound to cost more is followed."""
    transitions: int = 0
    """Steps after which only the most promising states of each cut are followed."""
    fallback_states: int = 8
    """How many those are."""
    budgets: Array | None = None
    """Bytes of weights that each device may hold, [devices]; infinite where there is no limit."""
    weights_onward: Array = field(default_factory=lambda: np.zeros(0))
    """With budgets: bytes of weights that the segments from each cut on need at least, on all devices together."""


class Sweep:
    """One forward pass over all cuts."""

    def __init__(self, table: CostTable, costs: tuple[Array, ...], bounds: Bounds, limits: Limits) -> None:
        self.table, self.costs, self.bounds, self.limits = table, costs, bounds, limits
        self.transitions = 0
        self.upper = limits.upper * (1 + _SLACK)
        self.dropped = False
        """Whether some state was not followed for lack of room."""
        self.states: list[dict[Key, State]] = [{} for _ in table.cuts]
        self._carried: dict[tuple[int, int], list[int]] = {}
        self._fronts: list[dict[Holdings, list[tuple[float, Used]]]] = [{} for _ in table.cuts]

    def run(self) -> tuple[float, tuple[Segment, ...]] | None:
        """The cost and the segments of the best way found that costs at most `upper`; None if there is none."""
        first = self.table.cuts[0]
        start = tuple(int(number) for number in first.holdings[0])
        used = () if self.limits.budgets is None else (0,) * len(self.limits.budgets)
        self.states[0][start, used] = State(0.0, 0, None, -1)
        for position in range(len(self.table.cuts) - 1):
            kept = self._most_promising(position)
            if kept:
                self._expand(position, kept)
        return self._best_end()

    def _most_promising(self, position: int) -> list[tuple[Key, State]]:
        onward = self.bounds.onward[position]
        ranked = list(self.states[position].items())
        most = MOST_STATES if self.transitions < self.limits.transitions else self.limits.fallback_states
        if len(ranked) > most:
            ranked.sort(key=lambda item: item[1].seconds + onward[item[1].choice])
            self.dropped = True
            ranked = ranked[:most]
        return ranked

    def _expand(self, position: int, kept: list[tuple[Key, State]]) -> None:
        """Try every segment after every state, but for those that the bounds exclude."""
        cut, ahead = self.table.cuts[position], following(self.table, self.bounds.onward, position)
        seconds = np.array([state.seconds for _, state in kept])
        chosen, rows, exchange = self._possible(position, kept, seconds, ahead)
        total = seconds[chosen] + exchange + self.costs[position][rows]
        passed = total - cut.relief_seconds[rows] + ahead[rows] <= self.upper
        used = self._used(cut, kept, chosen, rows)
        if used is not None:
            passed &= self._affordable(cut, used, rows)
        found = np.nonzero(passed)[0]
        most = max(self.limits.transitions - self.transitions, self.limits.fallback_states * STEPS_PER_STATE)
        if len(found) > most:
            found = found[np.argpartition(total[found] + ahead[rows[found]], most)[:most]]
            self.dropped = True
        self.transitions += len(found)
        for at in found:
            key, _ = kept[chosen[at]]
            after = () if used is None else tuple(int(nbytes) for nbytes in used[at])
            self._reach(position, key, int(rows[at]), float(total[at]), after)

    def _possible(
        self, position: int, kept: list[tuple[Key, State]], seconds: Array, ahead: Array
    ) -> tuple[Indices, Indices, Array]:
        """Pairs of a state and a segment (as two arrays of indices) that the bounds do not exclude, with the seconds
        of the exchange between; first with the exchange of the main tensor alone, then of each other tensor alone."""
        cut = self.table.cuts[position]
        holdings = np.array([held for (held, _), _ in kept], dtype=np.int64).reshape(len(kept), len(cut.tensors))
        without_exchange = seconds[:, None] + (self.costs[position] - cut.relief_seconds + ahead)
        choices = np.array([state.choice for _, state in kept])
        alone = main_exchange_seconds(self.table, position)[choices]
        for slot in range(len(cut.tensors)):
            if slot != cut.main and (without_exchange + alone <= self.upper).any():
                other = self.table.alone_seconds(position, slot, holdings[:, slot], cut.needs[:, slot])
                alone = np.maximum(alone, other)
        chosen, rows = np.nonzero(without_exchange + alone <= self.upper)
        return chosen, rows, self._exchange_seconds(position, holdings, alone, chosen, rows)

    def _used(self, cut: Cut, kept: list[tuple[Key, State]], chosen: Indices, rows: Indices) -> Array | None:
        """Bytes of weights on each device after each chosen pair of state and segment, [pairs, devices]."""
        if self.limits.budgets is None:
            return None
        before = np.array([used for (_, used), _ in kept], dtype=np.float64)
        after: Array = before[chosen] + cut.weight_bytes[rows]
        return after

    def _affordable(self, cut: Cut, used: Array, rows: Indices) -> npt.NDArray[np.bool_]:
        """Which of the pairs are within the budgets and leave room for the weights that come."""
        assert self.limits.budgets is not None
        room = self.limits.budgets - used
        lasting = room.sum(axis=1) >= self.limits.weights_onward[cut.stop[rows]]
        return np.asarray((room >= 0).all(axis=1) & lasting, dtype=np.bool_)

    def _exchange_seconds(
        self, position: int, holdings: Indices, alone: Array, chosen: Indices, rows: Indices
    ) -> Array:
        """Seconds of the exchange in front of each chosen pair of state and segment.

        Where a segment reads one live tensor they are known (`alone`); else the bytes of its tensors are added up.
        """
        cut = self.table.cuts[position]
        result: Array = alone[chosen, rows]
        read = cut.needs[rows] != NOTHING
        several = np.nonzero(read.sum(axis=1) > 1)[0]
        if len(several):
            held = np.where(read, holdings[chosen], NOTHING)[several]
            both = np.hstack((held, cut.needs[rows[several]]))
            first, where = distinct_rows(both)
            asked_holdings, asked_needs = np.hsplit(both[first], 2)
            result[several] = self.table.joint_seconds(position, asked_holdings, asked_needs)[where]
        return result

    def _reach(self, position: int, key: Key, row: int, seconds: float, used: Used) -> None:
        cut = self.table.cuts[position]
        stop, choice = int(cut.stop[row]), int(cut.choice[row])
        produced, needs, held = self.table.cuts[stop].holdings[choice], cut.needs[row], key[0]
        reached = []
        for slot, before in enumerate(self._carried_slots(position, stop)):
            if before == NOTHING:
                reached.append(int(produced[slot]))
            elif needs[before] == NOTHING:
                reached.append(held[before])
            else:
                kind = self.table.kinds[cut.kinds[before]]
                reached.append(kind.received(held[before], int(needs[before])))
        target = tuple(reached)
        if used:
            front = self._fronts[stop].setdefault(target, [])
            if any(known <= seconds and all(map(int.__le__, less, used)) for known, less in front):
                return
            front.append((seconds, used))
        known = self.states[stop].get((target, used))
        if known is None or seconds < known.seconds:
            self.states[stop][target, used] = State(seconds, choice, (position, key), row)

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

    def _best_end(self) -> tuple[float, tuple[Segment, ...]] | None:
        last = len(self.table.cuts) - 1
        keys = list(self.states[last])
        gathers = self._gather_seconds([held for held, _ in keys])
        ends = [(self.states[last][key].seconds + seconds, key) for key, seconds in zip(keys, gathers, strict=True)]
        if not ends or (best := min(ends))[0] > self.upper:
            return None
        segments = []
        position, key = last, best[1]
        while (state := self.states[position][key]).parent is not None:
            position, key = state.parent
            segments.append(self.table.segment(position, state.row))
        return best[0], tuple(reversed(segments))

    def _gather_seconds(self, held: Sequence[Holdings]) -> list[float]:
        """Seconds of bringing the outputs to the master, for each way in which devices may hold them."""
        if not held or not held[0]:
            return [0.0] * len(held)
        found: list[float] = []
        for start in range(0, len(held), _TOGETHER):
            holdings = np.array(held[start : start + _TOGETHER], dtype=np.int64)
            needs = np.repeat(self.table.gather[None], len(holdings), axis=0)
            found += self.table.joint_seconds(len(self.table.cuts) - 1, holdings, needs).tolist()
        return found


def distinct_rows(table: Indices) -> tuple[Indices, Indices]:
    """Where each distinct row of integers ≥ -1 stands first, and which of them each row is.

    Column by column on single numbers: many times as fast as numpy's sorting of whole rows.
    """
    key = np.zeros(len(table), dtype=np.int64)
    for column in table.T:
        _, key = np.unique(key * (int(column.max()) + 2) + column + 1, return_inverse=True)
    _, first, where = np.unique(key, return_index=True, return_inverse=True)
    return first, where
