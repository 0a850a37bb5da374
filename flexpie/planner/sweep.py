"""One forward pass over the cuts of a cost table, which keeps the cheapest way to each state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flexpie.core.plan import Segment
from flexpie.planner.bounds import Bounds
from flexpie.planner.boxes import Indices, Mask, distinct, unique
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING
from flexpie.planner.states import Limits, States, Steps
from flexpie.planner.table import CostTable, Cut

MOST_STATES = 1000
"""States that are followed from one cut at most."""
_COMPARED = 256
"""States that are compared with all cheaper ones at once."""
_SLACK = 1e-10
"""Relative; sums in another order differ by less."""


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
            holdings, where = unique(states.holdings[:, slot])
            if len(holdings) > 1:
                serves.append((self.table.kinds[number].serves(holdings, cut.asked_by_master[slot]), where))
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
        steps = self._possible(position, states, ahead)
        if self.limits.budgets is not None:
            steps = steps.take(
                self._affordable(cut, states.used[steps.chosen] + cut.weight_bytes[steps.rows], steps.rows)
            )
        most = max(self.limits.transitions - self.transitions, self.limits.fallback_states * self.limits.fallback_steps)
        if len(steps.rows) > most:
            order = np.argpartition(steps.least, most)
            self._drop(steps.least[order[most:]])
            steps = steps.take(order[:most])
        self.transitions += len(steps.rows)
        return self._reach(position, states, steps) if len(steps.rows) else []

    def _possible(self, position: int, states: States, ahead: Array) -> Steps:
        """The steps that the bounds do not exclude."""
        cut, reads = self.table.cuts[position], self.table.reads[position]
        costs = self.costs[position]
        worth = np.minimum(self.upper - ahead + cut.relief_seconds, self._everywhere[cut.stop]) - costs
        before = states.seconds[:, None] + self._exchange_seconds(position, states, reads.most(worth))
        chosen, rows = np.nonzero(before[:, reads.of_segment] <= worth)
        seconds = before[chosen, reads.of_segment[rows]] + costs[rows]
        return Steps(chosen, rows, seconds, seconds - cut.relief_seconds[rows] + ahead[rows])

    def _exchange_seconds(self, position: int, states: States, worth: Array) -> Array:
        """Seconds of the exchange between each state and each of the needs of segments, [S, U].

        Where that is more than the cost `worth` ([U]) up to the exchange's end allows, it is a lower bound only: first
        the exchange of the main tensor alone counts, then of each other tensor alone, and the bytes of several are
        added up for what is left.
        """
        cut, reads = self.table.cuts[position], self.table.reads[position]
        seconds = self.bounds.exchange[position][states.target - self.table.offsets[position]]
        if not position:  # everything counts there already
            return seconds
        room = worth - states.seconds[:, None]
        possible = seconds <= room
        for slot in range(len(cut.tensors)):
            if slot == cut.main:
                continue
            some = np.nonzero(possible.any(axis=1))[0]
            needs = np.nonzero(possible.any(axis=0) & (reads.needs[:, slot] != NOTHING))[0]
            if not len(some) or not len(needs):
                continue
            block = np.ix_(some, needs)
            alone = self.table.alone_seconds(position, slot, states.holdings[some, slot], reads.needs[needs, slot])
            seconds[block] = np.maximum(seconds[block], alone)
            possible[block] &= seconds[block] <= room[block]
        chosen, needs = np.nonzero(possible & reads.several)
        if len(chosen):
            held = states.holdings[chosen, : len(cut.tensors)]
            seconds[chosen, needs] = self.table.joint_seconds(position, held, reads.needs[needs])
        return seconds

    def _affordable(self, cut: Cut, used: Array, rows: Indices) -> Mask:
        """Which of the pairs are within the budgets and leave room for the weights that come."""
        assert self.limits.budgets is not None
        room = self.limits.budgets - used
        lasting = room.sum(axis=1) >= self.limits.weights_onward[cut.stop[rows]]
        return np.asarray((room >= 0).all(axis=1) & lasting, dtype=np.bool_)

    def _reach(self, position: int, states: States, steps: Steps) -> list[tuple[int, States]]:
        """The states to which steps lead, by cut."""
        cut, table = self.table.cuts[position], self.table
        steps = steps.take(np.argsort(cut.stop[steps.rows], kind="stable"))
        chosen, rows = steps.chosen, steps.rows
        after = np.full((len(rows), len(cut.tensors) + 1), NOTHING, dtype=np.int64)
        after[:, :-1] = states.holdings[chosen, : len(cut.tensors)]
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
        used = states.used[chosen]
        if self.limits.budgets is not None:
            used = used + cut.weight_bytes[rows]
        result = States(steps.seconds, steps.least, reached, target, used, origin)
        self._note_everywhere(result)
        stops = cut.stop[rows]
        begins = [0, *(np.nonzero(stops[1:] != stops[:-1])[0] + 1).tolist()]
        places = zip(stops[begins].tolist(), begins, [*begins[1:], len(result)], strict=True)
        return [(stop, result.take(slice(begin, end))) for stop, begin, end in places]

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
