"""Ways through a cost table on which no resource is used beyond its limit: time of processors and ports, or memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flexpie.core.plan import Segment
from flexpie.planner.bounds import following
from flexpie.planner.boxes import Indices, Mask, distinct
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING
from flexpie.planner.table import CostTable, Cut

MOST_LABELS = 128
"""Ways that are followed from one cut at most."""
_LABELS_PER_STATE = 32
"""Of these, ways to the same state at most, so that others stay in the race."""
_LOOKED_AT = 8
"""Times as many are compared with one another."""
_MOST_STEPS = 1500
"""Steps from one cut at most."""
_ROUNDING = 1e-9
"""Relative; sums in another order differ by less."""
_ALIKE = 1 / 500
"""Ways whose bounds differ by less than this part of the limit count as equally good."""


class Uses(Protocol):
    """What segments and exchanges use of R resources; what a whole plan uses is the sum."""

    def of_segments(self, cut: Cut) -> Array:
        """Of the segments that begin at a cut, without their exchanges, [N, R]."""
        ...

    def of_exchanges(self, nbytes: Array) -> Array:
        """Of exchanges that move these bytes, [..., n + 1, n + 1] → [..., R]; never less for more bytes."""
        ...


@dataclass(frozen=True)
class Prices:
    """A price of each resource, with which a lower bound of what plans cost is known."""

    of_resources: Array
    """[R]"""
    onward: tuple[Array, ...]
    """Per cut and candidate with which a segment ends there: the least that all behind the cut costs, [K]; see
    `flexpie.planner.bounds.Bounds`."""


@dataclass(frozen=True)
class _Labels:
    """Ways to the states at one cut; arrays with one row per way."""

    used: Array
    """[ways, R]"""
    states: Indices
    """Number of each one's state."""
    choices: Indices
    """Position in the cut's candidates of the one that divides the main tensor."""
    parents: Indices
    """Cut and number there of the way that each one continues, [ways, 2]."""
    rows: Indices
    """Segment between the two."""

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, which: Indices) -> _Labels:
        return _Labels(self.used[which], self.states[which], self.choices[which], self.parents[which], self.rows[which])


@dataclass(frozen=True)
class Way:
    """A way through a table."""

    segments: tuple[Segment, ...]
    used: Array
    """[R]"""


class ResourceSweep:
    """One forward pass over all cuts, for several ways to each state: one may use more of one resource, another way
    more of another one. Ways that cannot end within the limits, and those that use no less of anything than another
    one to the same state, are dropped.

    Parameters
    ----------
    prices: one or more; the ways that promise to be cheapest by the first are followed where there are too many.
    """

    def __init__(self, table: CostTable, uses: Uses, prices: Sequence[Prices], most_labels: int = MOST_LABELS) -> None:
        self.table, self.uses, self.prices, self.most_labels = table, uses, tuple(prices), most_labels
        self.dropped = False
        """Whether the last run left out a way for lack of room: what it did not find may exist."""
        self._weights = np.stack([item.of_resources for item in self.prices], axis=1)
        self._ahead = [
            np.stack([following(table, item.onward, position) for item in self.prices], axis=1)
            for position in range(len(table.cuts))
        ]
        self._states: list[tuple[int, ...]] = []
        """Holding of each live tensor, by number."""
        self._numbers: dict[tuple[int, ...], int] = {}
        self._segment_uses: dict[int, Array] = {}
        """By cut."""
        self._exchange_index: dict[tuple[int, ...], dict[bytes, int]] = {}
        self._exchange_uses: Array = np.zeros((0, len(self._weights)))
        """Of every exchange that was asked for; the rows behind `_exchange_count` are free."""
        self._exchange_count = 0
        self._exchanges_of: dict[tuple[int, int], Indices] = {}
        """By cut and state: the number of the exchange in front of each segment, [N]."""
        self._after: dict[tuple[int, int, int], int] = {}

    def run(self, limits: Array, allowed: Sequence[Mask] | None = None) -> Way | None:
        """A way that uses at most `limits` ([R]), and of those found the one whose largest part of a limit is least.

        None if there is none; or none was found, if `dropped`. With `allowed` only segments count for which it is
        true; per cut, [N].
        """
        self.dropped, self._allowed = False, allowed
        self._limits = limits * (1 + _ROUNDING)
        self._most = self._limits @ self._weights
        last = len(self.table.cuts) - 1
        self._waiting: list[list[_Labels]] = [[] for _ in self.table.cuts]
        self._kept: list[_Labels | None] = [None] * len(self.table.cuts)
        none = np.zeros(1, dtype=np.int64)
        start = self._number(tuple(int(holding) for holding in self.table.cuts[0].holdings[0]))
        first = _Labels(np.zeros((1, len(limits))), none + start, none, np.zeros((1, 2), dtype=np.int64), none)
        self._waiting[0].append(first)
        for position in range(last + 1):
            if self._waiting[position]:
                labels = self._best(position, _joined(self._waiting[position]))
                self._waiting[position], self._kept[position] = [], labels
                if position < last:
                    self._expand(position, labels)
        return self._end()

    def _number(self, state: tuple[int, ...]) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number

    # ------------------------------------------------------------------------------------------- choosing

    def _best(self, position: int, labels: _Labels) -> _Labels:
        """The most promising ways to a cut, best first, without those that another one to the same state dominates."""
        order = self._ranked(labels.used, self.prices[0].onward[position][labels.choices])
        if len(order) > _LOOKED_AT * self.most_labels:
            self.dropped = True
            order = order[: _LOOKED_AT * self.most_labels]
        labels = labels.chosen(order)
        kept = [at for state in np.unique(labels.states) for at in self._undominated(labels, state)]
        if len(kept) > self.most_labels:
            self.dropped = True
        return labels.chosen(np.array(sorted(kept)[: self.most_labels], dtype=np.int64))

    def _undominated(self, labels: _Labels, state: int) -> list[int]:
        """Of the ways to one state, best first: those that use less of something than each one before."""
        members = np.nonzero(labels.states == state)[0]
        used = labels.used[members]
        left = np.ones(len(members), dtype=np.bool_)
        kept: list[int] = []
        for at in range(len(members)):
            if left[at]:
                if len(kept) == _LABELS_PER_STATE:
                    self.dropped = True
                    break
                kept.append(int(members[at]))
                left &= (used < used[at] * (1 - _ROUNDING)).any(axis=1)
        return kept

    def _ranked(self, used: Array, onward: Array) -> Indices:
        """The order of ways from the most promising on: those that must cost least, and of those that must cost about
        the same the ones that use few resources much: they leave the others free."""
        costs = (used @ self._weights[:, 0] + onward) / (float(self._most[0]) or 1.0)
        filled = np.square(used / _positive(self._limits)).sum(axis=1)
        return np.lexsort((-filled, np.floor(costs / _ALIKE)))

    # ---------------------------------------------------------------------------------------- going on

    def _expand(self, position: int, labels: _Labels) -> None:
        """Take every step from every way that may end within the limits."""
        ahead = self._ahead[position]
        found: list[tuple[Indices, Indices, Array]] = []
        for state in np.unique(labels.states):
            members = np.nonzero(labels.states == state)[0]
            added = self._step_uses(position, int(state))
            least = (labels.used[members] @ self._weights)[:, None] + (added @ self._weights + ahead)[None]
            possible = (least <= self._most).all(axis=2)
            if self._allowed is not None:
                possible &= self._allowed[position]
            ways, rows = np.nonzero(possible)
            used = labels.used[members[ways]] + added[rows]
            within = np.nonzero((used <= self._limits).all(axis=1))[0]
            found.append((members[ways[within]], rows[within], used[within]))
        ways, rows = (np.concatenate([item[part] for item in found]) for part in (0, 1))
        used = np.concatenate([item[2] for item in found])
        if len(ways) > _MOST_STEPS:
            self.dropped = True
            best = self._ranked(used, ahead[rows, 0])[:_MOST_STEPS]
            ways, rows, used = ways[best], rows[best], used[best]
        self._reach(position, labels, ways, rows, used)

    def _step_uses(self, position: int, state: int) -> Array:
        """What each segment that begins at a cut uses, with the exchange in front of it, [N, R]."""
        key = (position, state)
        if key not in self._exchanges_of:
            cut = self.table.cuts[position]
            held = np.broadcast_to(np.array(self._states[state], dtype=np.int64), cut.needs.shape)
            self._exchanges_of[key] = self._exchange_numbers(cut, held, cut.needs)
        if position not in self._segment_uses:
            self._segment_uses[position] = self.uses.of_segments(self.table.cuts[position])
        return self._segment_uses[position] + self._exchange_uses[self._exchanges_of[key]]

    def _exchange_numbers(self, cut: Cut, holdings: Indices, needs: Indices) -> Indices:
        """The numbers of exchanges of all live tensors at once, [questions], under which `_exchange_uses` has what
        they use; holdings and needs have shape [questions, T]."""
        asked = np.hstack((np.where(needs == NOTHING, NOTHING, holdings), needs))
        first, where = distinct(asked)
        known = self._exchange_index.setdefault(cut.kinds, {})
        keys = [asked[row].tobytes() for row in first]
        fresh = [row for row, key in zip(first.tolist(), keys, strict=True) if key not in known]
        if fresh:
            count, total = self._exchange_count, self._exchange_count + len(fresh)
            known.update((asked[row].tobytes(), count + at) for at, row in enumerate(fresh))
            if total > len(self._exchange_uses):
                more = np.zeros((total, self._exchange_uses.shape[1]))
                self._exchange_uses = np.concatenate((self._exchange_uses[:count], more))
            self._exchange_uses[count:total] = self.uses.of_exchanges(self._nbytes(cut, holdings[fresh], needs[fresh]))
            self._exchange_count = total
        return np.array([known[key] for key in keys], dtype=np.int64)[where]

    def _nbytes(self, cut: Cut, holdings: Indices, needs: Indices) -> Array:
        ends = self.table.growth.devices + 1
        nbytes = np.zeros((len(needs), ends, ends))
        for slot, number in enumerate(cut.kinds):
            asked = np.nonzero(needs[:, slot] != NOTHING)[0]
            if len(asked):
                nbytes[asked] += self.table.kinds[number].nbytes(holdings[asked, slot], needs[asked, slot])
        return nbytes

    def _reach(self, position: int, labels: _Labels, ways: Indices, rows: Indices, used: Array) -> None:
        """Put steps where their segments end, with the state that these leave."""
        cut = self.table.cuts[position]
        states = labels.states[ways].tolist()
        after = np.array(
            [self._state_after(position, state, row) for state, row in zip(states, rows.tolist(), strict=True)],
            dtype=np.int64,
        )
        parents = np.stack((np.full(len(ways), position), ways), axis=1)
        stops = cut.stop[rows]
        for stop in np.unique(stops):
            which = np.nonzero(stops == stop)[0]
            there = _Labels(used[which], after[which], cut.choice[rows[which]], parents[which], rows[which])
            self._waiting[stop].append(there)

    def _state_after(self, position: int, state: int, row: int) -> int:
        """The number of the state behind a segment. Remembered."""
        key = (position, state, row)
        if key not in self._after:
            self._after[key] = self._number(self._reached(position, self._states[state], row))
        return self._after[key]

    def _reached(self, position: int, state: tuple[int, ...], row: int) -> tuple[int, ...]:
        cut = self.table.cuts[position]
        after, needs = self.table.cuts[int(cut.stop[row])], cut.needs[row]
        produced = after.holdings[int(cut.choice[row])]
        slots = {tensor: slot for slot, tensor in enumerate(cut.tensors)}
        reached = []
        for at, (tensor, producer) in enumerate(zip(after.tensors, after.producers, strict=True)):
            if producer >= position:
                reached.append(int(produced[at]))
                continue
            slot = slots[tensor]
            kind, need = self.table.kinds[cut.kinds[slot]], int(needs[slot])
            reached.append(state[slot] if need == NOTHING else kind.receive(state[slot], need))
        return tuple(reached)

    # ------------------------------------------------------------------------------------------ the end

    def _end(self) -> Way | None:
        last = len(self.table.cuts) - 1
        labels = self._kept[last]
        if labels is None:
            return None
        states, where = np.unique(labels.states, return_inverse=True)
        holdings = np.array([self._states[state] for state in states], dtype=np.int64).reshape(len(states), -1)
        gathered = np.repeat(self.table.gather[None], len(states), axis=0)
        exchanges = self._exchange_numbers(self.table.cuts[last], holdings, gathered)
        used = labels.used + self._exchange_uses[exchanges[where]]
        largest = (used / _positive(self._limits)).max(axis=1)
        best = int(largest.argmin())
        if (used[best] > self._limits).any():
            return None
        segments = []
        position, number = last, best
        while position > 0:
            kept = self._kept[position]
            assert kept is not None
            row = int(kept.rows[number])
            position, number = (int(item) for item in kept.parents[number])
            segments.append(self.table.segment(position, row))
        return Way(tuple(reversed(segments)), used[best])


def _joined(parts: Sequence[_Labels]) -> _Labels:
    return _Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Labels.__dataclass_fields__))


def _positive(limits: Array) -> Array:
    """Limits to divide by; what has a limit of 0 is not used at all."""
    return np.where(limits > 0, limits, 1.0)
