"""Closer lower bounds of the time from a cut on, by looking ahead from every cut to where older tensors are used up.

The bounds of `flexpie.planner.bounds` follow one live tensor. In a residual block two or more are live, so that they
take the exchanges of the others for free. Here each of them counts from a fresh segment on: one that has produced all
that is live where it ends, so that its candidate alone says who holds what. From there all ways to the next fresh
segment's end are followed exactly, as far as they cost little more than the bound that is known: either one of them
says what the bound should be, or they all cost more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flexpie.planner.bounds import Bounds, step_seconds
from flexpie.planner.boxes import Indices
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING
from flexpie.planner.states import Limits, States
from flexpie.planner.sweep import Sweep
from flexpie.planner.table import CostTable

REACH = 8.0
"""How far to look ahead, as a multiple of what each cut contributes on average to the gap between bound and plan."""
MOST_AHEAD = 4000
"""Steps that looking ahead from one cut may take."""
_FEW_STATES = 64
"""States per cut once it has taken so many."""


@dataclass
class LookAhead:
    """Raises bounds, from the last cut to the first.

    Parameters
    ----------
    costs: what each segment costs without its exchange, [N] per cut.
    upper: what a known plan costs; bounds of what cannot be part of a better one stay as they are.
    """

    table: CostTable
    costs: tuple[Array, ...]
    bounds: Bounds
    upper: float

    def raised(self, most_steps: int) -> Bounds:
        """The bounds, raised as far as about `most_steps` steps allow."""
        table, cuts = self.table, range(len(self.table.cuts) - 1)
        onward, fresh = self.bounds.onward.copy(), self.bounds.onward.copy()
        found = replace(self.bounds, onward=onward, onward_fresh=fresh)
        older = sum(not some.all() for some in table.fresh)
        reach = REACH * (self.upper - self.bounds.best()) / max(1, older)
        for position in reversed(cuts):
            here = table.of_cut(position)
            steps = step_seconds(table, self.bounds.exchange, self.costs, position)
            onward[here] = np.maximum(onward[here], (steps + found.following(position)).min(axis=1))
            fresh[here] = onward[here]
            if (
                position == 0
                or most_steps <= 0
                or (len(table.cuts[position].tensors) == 1 and not self._older(position))
            ):
                continue
            promising = np.nonzero(self.bounds.arriving[here] + onward[here] <= self.upper)[0]
            if len(promising):
                ahead = _Ahead(table, self.costs, found, Limits(reach, MOST_AHEAD, _FEW_STATES))
                fresh[here.start + promising] += ahead.excess(position, promising)
                most_steps -= ahead.transitions
        return found

    def _older(self, position: int) -> bool:
        """Whether some segment from a cut on leaves something older live."""
        return not self.table.fresh[position].all()


class _Ahead(Sweep):
    """A sweep from the fresh states of one cut to the next fresh ones. Its costs are what a way costs beyond the bound
    of the state where it began; ways that began in different states are kept apart."""

    def excess(self, position: int, candidates: Indices) -> Array:
        """By how much more than its bound any way costs from each of some candidates on, at most the limit,
        [candidates]."""
        self._arrived[position].append(self._fresh_states(position, candidates))
        found, end = np.full(len(candidates), self.limits.upper), position + 1
        while position < end:
            states = self._settled(position)
            for stop, reached in () if states is None else self.expand(position, states):
                done = self.table.fresh[position][reached.origin[:, 2]] | (stop == len(self.table.fresh) - 1)
                np.minimum.at(found, reached.used[done, 0].astype(np.int64), reached.least[done])
                if not done.all():
                    self._arrived[stop].append(reached.take(~done))
                    end = max(end, stop + 1)
            position += 1
        excess: Array = np.maximum(np.minimum(found, self.dropped_seconds), 0.0)
        return excess

    def _fresh_states(self, position: int, candidates: Indices) -> States:
        table, cut = self.table, self.table.cuts[position]
        target = table.offsets[position] + candidates
        holdings = np.full((len(candidates), table.tensors.shape[1]), NOTHING, dtype=np.int64)
        holdings[:, : len(cut.tensors)] = cut.holdings[candidates]
        for slot in np.nonzero(table.small[position])[0].tolist():
            holdings[:, slot] = table.kinds[cut.kinds[slot]].held_by_all()
        number = np.arange(len(candidates))
        # States are compared by what they use, too: these two are never both less.
        apart = np.stack((number, len(number) - number), axis=1).astype(np.float64)
        none = np.zeros((len(candidates), 3), dtype=np.int64)
        return States(-self.bounds.onward_fresh[target], np.zeros(len(candidates)), holdings, target, apart, none)

    def _note_everywhere(self, states: States) -> None:
        """Nothing: what one way has everywhere is of no use to those that began elsewhere."""
