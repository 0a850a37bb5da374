"""One forward pass over the cuts of a cost table, which keeps the cheapest way to each state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.plan import Segment
from flexpie.planner.bounds import Bounds
from flexpie.planner.boxes import Indices, Mask, distinct
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING
from flexpie.planner.table import CostTable, Cut

MOST_STATES = 1000
"""States that are followed from one cut at most."""
_COMPARED = 256
"""States that are compared with all cheaper ones at once."""
_SLACK = 1e-10
"""Relative; sums in another order differ by less."""


@dataclass(frozen=True)
class States:
    """S ways to reach one cut, each with what every end then holds."""

    seconds: Array
    """[S]"""
    least: Array
    """What a plan costs at least that goes on from there, [S]."""
    holdings: Indices
    """Holding of each live tensor, [S, most live tensors]; padded."""
    target: Indices
    """The candidate with which the last segment ends, numbered through all cuts, [S]."""
    used: Array
    """Bytes of weights so far, [S, devices]; [S, 0] where no budget limits them."""
    origin: Indices
    """Where the last segment begins, the number of the state before it among those that were followed from there, and
    the segment, [S, 3]."""

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, which: Indices | Mask | slice) -> States:
        """Some of the states."""
        return States(
            self.seconds[which], self.least[which], self.holdings[which], self.target[which], self.used[which],
            self.origin[which],
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence[States]) -> States:
        """All states of several; at least one."""
        return States(
            np.concatenate([part.seconds for part in parts]),
            np.concatenate([part.least for part in parts]),
            np.concatenate([part.holdings for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.used for part in parts]),
            np.concatenate([part.origin for part in parts]),
        )


@dataclass(frozen=True)
class Limits:
    """How much a sweep looks at."""

    upper: float = math.inf
    """Nothing that is bound to cost more is followed."""
    transitions: int = 0
    """Steps after which only the most promising states of each cut are followed."""
    fallback_states: int = 8
    """How many those are."""
    fallback_steps: int = 16
    """Steps from each of them, on average."""
    budgets: Array | None = None
    """Bytes of weights that each device may hold, [devices]; infinite where there is no limit."""
    weights_onward: Array = field(default_factory=lambda: np.zeros(0))
    """With budgets: bytes of weights that the segments from each cut on need at least, on all devices together."""


class Sweep:
    """One forward pass over all cuts.

    A state is left out where another one of the same cut costs no more and is as good whatever comes
    (`TensorKind.serves`), and uses no more memory where that is limited. No best plan is lost by that: what can follow
    the one can follow the other, and costs no more there.
    """

    def __init__(
        self,
        table: CostTable,
        costs: tuple[Array, ...],
        bounds: Bounds,
        limits: Limits,
    ) -> None:
        self.table, self.costs, self.bounds, self.limits = table, costs, bounds, limits
        self.transitions = 0
        self.upper = limits.upper * (1 + _SLACK)
        self.dropped_seconds = math.inf
        """No plan through a state that was not followed for lack of room costs less; infinite where all were."""
        self._kept: list[States | None] = [None] * len(table.cuts)
        self._arrived: list[list[States]] = [[] for _ in table.cuts]
        self._everywhere = np.full(len(table.cuts), math.inf)
        """Least cost of a way to each cut by which every device has all that is live there: states that cost more
        are of no use."""

    def run(self) -> tuple[float, tuple[Segment, ...]] | None:
        """The cost and the segments of the best way found that costs at most `upper`; None if there is none."""
        self._arrived[0].append(self.start())
        for position in range(len(self.table.cuts) - 1):
            states = self._settled(position)
            if states is not None:
                self._kept[position] = states
                for stop, reached in self.expand(position, states):
                    self._arrived[stop].append(reached)
        return self._best_end()

    def start(self) -> States:
        """The one state in front of all layers."""
        holdings = np.full((1, self.table.tensors.shape[1]), NOTHING, dtype=np.int64)
        holdings[0, : len(self.table.cuts[0].tensors)] = self.table.cuts[0].holdings[0]
        used = np.zeros((1, 0 if self.limits.budgets is None else len(self.limits.budgets)))
        none = np.zeros((1, 3), dtype=np.int64)
        return States(np.zeros(1), np.zeros(1), holdings, none[:, 0], used, none)

    # --------------------------------------------------------------------------------------------- states

    def _settled(self, position: int) -> States | None:
        """The states from which to go on from a cut."""
        arrived, self._arrived[position] = self._arrived[position], []
        if not arrived:
            return None
        states = States.joined(arrived)
        states = states.take(np.argsort(states.seconds, kind="stable"))
        states = states.take(slice(0, int(np.searchsorted(states.seconds, self._everywhere[position], "right"))))
        if not len(states):
            return None
        first, _ = distinct(np.hstack((states.holdings, states.used.astype(np.int64))))
        states = self._undominated(position, states.take(first))
        most = MOST_STATES if self.transitions < self.limits.transitions else self.limits.fallback_states
        if len(states) > most:
            order = np.argsort(states.least, kind="stable")
            self._drop(states.least[order[most:]])
            states = states.take(np.sort(order[:most]))
        return states

    def _drop(self, least: Array) -> None:
        self.dropped_seconds = min(self.dropped_seconds, float(least.min()))

    def _undominated(self, position: int, states: States) -> States:
        """The states, cheapest first, without those that a cheaper one makes superfluous."""
        if len(states) < 2:
            return states
        cut, serves = self.table.cuts[position], []
        for slot, number in enumerate(cut.kinds):
            unique, where = np.unique(states.holdings[:, slot], return_inverse=True)
            if len(unique) > 1:
                serves.append((self.table.kinds[number].serves(unique, cut.asked_by_master[slot]), where))
        kept = np.zeros(0, dtype=np.int64)
        for start in range(0, len(states), _COMPARED):
            fresh = np.arange(start, min(start + _COMPARED, len(states)))
            if len(kept):
                fresh = fresh[~self._superfluous(states, serves, kept, fresh).any(axis=0)]
            among = self._superfluous(states, serves, fresh, fresh)
            kept = np.concatenate((kept, fresh[~np.triu(among, 1).any(axis=0)]))
        return states.take(kept)

    @staticmethod
    def _superfluous(states: States, serves: Sequence[tuple[Mask, Indices]], first: Indices, second: Indices) -> Mask:
        """Whether a state is as good as another, dearer one, [len(first), len(second)]."""
        found = np.ones((len(first), len(second)), dtype=np.bool_)
        for better, where in serves:
            found &= better[where[first][:, None], where[second]]
        if states.used.shape[1]:
            found &= (states.used[first][:, None] <= states.used[second]).all(axis=-1)
        return found

    # ---------------------------------------------------------------------------------------------- steps

    def expand(self, position: int, states: States) -> list[tuple[int, States]]:
        """Try every segment after every state, but for those that the bounds exclude: the cuts and states that are
        reached."""
        cut, ahead = self.table.cuts[position], self.bounds.following(position)
        chosen, rows, exchange = self._possible(position, states, ahead)
        total = states.seconds[chosen] + exchange + self.costs[position][rows]
        least = total - cut.relief_seconds[rows] + ahead[rows]
        passed = (least <= self.upper) & (total <= self._everywhere[cut.stop[rows]])
        used = states.used[chosen]
        if self.limits.budgets is not None:
            used = used + cut.weight_bytes[rows]
            passed &= self._affordable(cut, used, rows)
        found = np.nonzero(passed)[0]
        most = max(self.limits.transitions - self.transitions, self.limits.fallback_states * self.limits.fallback_steps)
        if len(found) > most:
            order = np.argpartition(least[found], most)
            self._drop(least[found[order[most:]]])
            found = found[order[:most]]
        self.transitions += len(found)
        if not len(found):
            return []
        return self._reach(position, states.holdings, chosen[found], rows[found], total[found], used[found])

    def _possible(self, position: int, states: States, ahead: Array) -> tuple[Indices, Indices, Array]:
        """Pairs of a state and a segment (as two arrays of indices) that the bounds do not exclude, with the seconds
        of the exchange between; first with the exchange of the main tensor alone, then of each other tensor alone."""
        cut = self.table.cuts[position]
        without_exchange = states.seconds[:, None] + (self.costs[position] - cut.relief_seconds)
        worth = np.minimum(self.upper - ahead, self._everywhere[cut.stop])
        alone = self.bounds.exchange[position][states.target - self.table.offsets[position]]
        for slot in range(len(cut.tensors) if position else 0):
            if slot != cut.main and (without_exchange + alone <= worth).any():
                other = self.table.alone_seconds(position, slot, states.holdings[:, slot], cut.needs[:, slot])
                alone = np.maximum(alone, other)
        chosen, rows = np.nonzero(without_exchange + alone <= worth)
        return chosen, rows, self._exchange_seconds(position, states.holdings, alone, chosen, rows)

    def _affordable(self, cut: Cut, used: Array, rows: Indices) -> Mask:
        """Which of the pairs are within the budgets and leave room for the weights that come."""
        assert self.limits.budgets is not None
        room = self.limits.budgets - used
        lasting = room.sum(axis=1) >= self.limits.weights_onward[cut.stop[rows]]
        return np.asarray((room >= 0).all(axis=1) & lasting, dtype=np.bool_)

    def _exchange_seconds(
        self, position: int, holdings: Indices, alone: Array, chosen: Indices, rows: Indices
    ) -> Array:
        """Seconds of the exchange in front of each chosen pair of state and segment.

        Where a segment reads one live tensor they are known (`alone`), as they are at the first cut; else the bytes of
        its tensors are added up.
        """
        cut = self.table.cuts[position]
        result: Array = alone[chosen, rows]
        reads_several = (cut.needs != NOTHING).sum(axis=1) > 1
        if position and reads_several.any():
            several = np.nonzero(reads_several[rows])[0]
            held = holdings[chosen[several], : len(cut.tensors)]
            result[several] = self.table.joint_seconds(position, held, cut.needs[rows[several]])
        return result

    def _reach(
        self, position: int, holdings: Indices, chosen: Indices, rows: Indices, seconds: Array, used: Array
    ) -> list[tuple[int, States]]:
        """The states to which pairs of a state and a segment lead, by cut."""
        cut, table = self.table.cuts[position], self.table
        order = np.argsort(cut.stop[rows], kind="stable")
        chosen, rows = chosen[order], rows[order]
        after = np.full((len(rows), len(cut.tensors) + 1), NOTHING, dtype=np.int64)
        after[:, :-1] = holdings[chosen, : len(cut.tensors)]
        for slot, number in enumerate(cut.kinds):
            needs = cut.needs[rows, slot]
            read = needs != NOTHING
            if read.any():
                after[read, slot] = table.kinds[number].received(after[read, slot], needs[read])
        slots = np.full(int(table.tensors.max(initial=0)) + 2, -1, dtype=np.int64)
        slots[list(cut.tensors)] = np.arange(len(cut.tensors))  # those of the others are -1: they are produced
        carried = slots[table.tensors[cut.stop[rows]]]
        target = table.targets[position][rows]
        reached = np.where(carried < 0, table.produced[target], np.take_along_axis(after, carried, axis=1))
        origin = np.stack((np.full_like(rows, position), chosen, rows), axis=1)
        least = seconds[order] + self.bounds.onward[target]
        states = States(seconds[order], least, reached, target, used[order], origin)
        self._note_everywhere(states)
        within = least <= self.upper
        states = states.take(within)
        if not len(states):
            return []
        stops, begins = np.unique(cut.stop[rows][within], return_index=True)
        ends = [*begins.tolist()[1:], len(states)]
        places = zip(stops.tolist(), begins.tolist(), ends, strict=True)
        return [(stop, states.take(slice(begin, end))) for stop, begin, end in places]

    def _note_everywhere(self, states: States) -> None:
        """Remember the cheapest way to each cut by which every device has all that is live there."""
        if self.limits.budgets is not None:
            return
        some = np.nonzero(self.table.yields_everywhere[states.target])[0]
        for at in some[np.argsort(states.seconds[some])].tolist():
            stop = self.table.cut_of(int(states.target[at]))
            if states.seconds[at] < self._everywhere[stop] and all(
                self.table.kinds[kind].everywhere(states.holdings[at, slot : slot + 1])[0]
                for slot, kind in enumerate(self.table.cuts[stop].kinds)
            ):
                self._everywhere[stop] = states.seconds[at]

    # ------------------------------------------------------------------------------------------- the best

    def ending(self, states: States) -> Array:
        """The cost of states at the last cut with the gathering of the outputs, [S]."""
        needs = np.repeat(self.table.gather[None], len(states), axis=0)
        held = states.holdings[:, : needs.shape[1]]
        found: Array = states.seconds + self.table.joint_seconds(len(self.table.cuts) - 1, held, needs)
        return found

    def _best_end(self) -> tuple[float, tuple[Segment, ...]] | None:
        last = len(self.table.cuts) - 1
        if last == 0:
            return 0.0, ()
        states = self._settled(last)
        if states is None:
            return None
        seconds = self.ending(states)
        best = int(seconds.argmin())
        if seconds[best] > self.upper:
            return None
        segments, here, at = [], states, best
        while here is not self._kept[0]:
            position, at, row = here.origin[at].tolist()
            segments.append(self.table.segment(position, row))
            before = self._kept[position]
            assert before is not None
            here = before
        return float(seconds[best]), tuple(reversed(segments))
