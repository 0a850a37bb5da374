"""Closer lower bounds of the time from a cut on, by a relaxed problem that follows two live tensors."""

from __future__ import annotations

import numpy as np

from flexpie.planner.bounds import Bounds
from flexpie.planner.boxes import Indices, Mask
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING
from flexpie.planner.table import CostTable

_UNKNOWN = 0
"""Form of a second tensor of which the relaxed problem does not know who holds it; its exchange costs nothing."""


_SLACK = 1e-10
"""Relative; sums in another order differ by less."""


class PairBounds:
    """Lower bounds in seconds.

    At each cut the relaxed problem follows the main tensor, as in `flexpie.planner.bounds`, and the largest of the
    others, the second one. It charges the dearer of the exchanges of both. So a segment that ends inside of a residual
    block no longer makes the other branch's tensor free.

    Parameters
    ----------
    costs: what each segment costs without its exchange, [N] per cut.
    upper: segments are left out which cannot be part of a plan that costs less; nothing is said of others.
    """

    def __init__(self, table: CostTable, costs: tuple[Array, ...], bounds: Bounds, upper: float) -> None:
        self._table, self._costs, self._bounds = table, costs, bounds
        cuts = table.cuts
        self._second = np.array([_largest_other(table, position) for position in range(len(cuts))], dtype=np.int64)
        """Slot of the second tensor at each cut, or `NOTHING`."""
        self._useful = [self._useful_segments(position, upper) for position in range(len(cuts))]
        self._forms: list[list[int]] = [[] for _ in cuts]
        """Holdings of the second tensor that may occur at each cut; that at place i is form i + 1."""
        self._note_forms()
        width = max([len(kind.holdings) for kind in table.kinds], default=0)
        self._form_of = np.full((len(cuts), width), _UNKNOWN, dtype=np.int64)
        for position, forms in enumerate(self._forms):
            self._form_of[position, forms] = np.arange(1, len(forms) + 1)
        counts = np.diff(table.offsets)
        sizes = np.repeat([len(forms) + 1 for forms in self._forms], counts)
        self._offsets = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        """First of the bounds of each candidate; those of its forms follow one another."""
        self._cut_of = np.repeat(np.arange(len(cuts)), counts)
        self._onward = np.zeros(int(sizes.sum()))
        self._work_out()

    def ahead(self, target: Indices, holdings: Indices) -> Array:
        """Bounds behind states, given the candidate with which the last segment ends and what is held, [states]."""
        cut = self._cut_of[target]
        slot = self._second[cut]
        held = holdings[np.arange(len(target)), slot]
        known = (slot != NOTHING) & (held < self._form_of.shape[1])
        form = np.where(known, self._form_of[cut, np.where(known, held, 0)], _UNKNOWN)
        found: Array = self._onward[self._offsets[target] + form]
        return found

    def _useful_segments(self, position: int, upper: float) -> Indices:
        bounds, cut = self._bounds, self._table.cuts[position]
        arriving = bounds.arriving[self._table.of_cut(position)][:, None]
        least = (arriving + bounds.exchange[position]).min(axis=0) + self._costs[position] - cut.relief_seconds
        return np.nonzero(least + bounds.following(position) <= upper * (1 + _SLACK))[0]

    def _origins(self, position: int) -> tuple[Indices, Mask, Mask, Mask]:
        """Of useful segments' ends: slot of their second tensor there, and whether it is produced on the way, is the
        main tensor here, or is the second tensor here."""
        table, cut = self._table, self._table.cuts[position]
        stops = cut.stop[self._useful[position]]
        slot = self._second[stops]
        tensor = np.where(slot == NOTHING, NOTHING, table.tensors[stops, slot])
        here = np.full(int(table.tensors.max(initial=0)) + 2, NOTHING, dtype=np.int64)
        here[list(cut.tensors)] = np.arange(len(cut.tensors))
        carried = here[tensor]
        produced = (slot != NOTHING) & (carried == NOTHING)
        main = (carried == cut.main) & (carried != NOTHING)
        return slot, produced, main, (carried == self._second[position]) & (carried != NOTHING)

    def _note_forms(self) -> None:
        """Find what holdings of second tensors may occur, from the first cut on."""
        table = self._table
        found: list[set[int]] = [set() for _ in table.cuts]
        for position, cut in enumerate(table.cuts):
            self._forms[position] = sorted(found[position])
            rows = self._useful[position]
            slot, produced, main, second = self._origins(position)
            targets = table.targets[position][rows]
            pairs = [np.stack((cut.stop[rows], table.produced[targets, slot]))[:, produced]]
            here = np.array(self._forms[position], dtype=np.int64)
            for chosen, at in ((rows[main], cut.main), (rows[second], int(self._second[position]))):
                if len(chosen):
                    held = cut.holdings[:, at] if at == cut.main else here
                    after = self._after(position, at, held, chosen)
                    pairs.append(np.stack((np.broadcast_to(cut.stop[chosen], after.shape).ravel(), after.ravel())))
            stops, holdings = np.concatenate(pairs, axis=1)
            for key in np.unique((stops << 32) | holdings).tolist():
                found[key >> 32].add(key & 0xFFFFFFFF)

    def _after(self, position: int, slot: int, held: Indices, rows: Indices) -> Indices:
        """Holdings of a live tensor after the exchange in front of segments, [len(held), len(rows)]."""
        cut = self._table.cuts[position]
        kind, needs = self._table.kinds[cut.kinds[slot]], cut.needs[rows, slot]
        after = np.repeat(held[:, None], len(rows), axis=1)
        read = needs != NOTHING
        if read.any():
            pairs = np.broadcast_arrays(held[:, None], needs[read])
            after[:, read] = kind.received(pairs[0].ravel(), pairs[1].ravel()).reshape(pairs[0].shape)
        return after

    def _work_out(self) -> None:
        table = self._table
        last = len(table.cuts) - 1
        for position in range(last, -1, -1):
            forms, cut = np.array(self._forms[position], dtype=np.int64), table.cuts[position]
            rows, candidates = self._useful[position], max(1, len(cut.candidates))
            block = self._onward[self._offsets[table.offsets[position]] :][: candidates * (len(forms) + 1)]
            if position == last:
                block[:] = np.repeat(self._bounds.onward[table.of_cut(last)], len(forms) + 1)
                continue
            if not len(rows):
                block[:] = np.inf
                continue
            second = np.zeros((len(forms) + 1, len(rows)))
            if len(forms):
                slot = int(self._second[position])
                second[1:] = table.alone_seconds(position, slot, forms, cut.needs[rows, slot])
            exchange = np.maximum(self._bounds.exchange[position][:, None, rows], second)
            exchange += (self._costs[position] - cut.relief_seconds)[rows]
            block[:] = (exchange + self._behind(position, forms, rows)).min(axis=-1).ravel()

    def _behind(self, position: int, forms: Indices, rows: Indices) -> Array:
        """Bounds behind segments, by candidate and form in front of them; broadcasts to [candidates, forms, rows]."""
        table, cut = self._table, self._table.cuts[position]
        slot, produced, main, second = self._origins(position)
        targets, stops = table.targets[position][rows], cut.stop[rows]
        form = np.full((1, 1, len(rows)), _UNKNOWN, dtype=np.int64)
        form[0, 0, produced] = self._form_of[stops, table.produced[targets, slot]][produced]
        if main.any():
            after = self._after(position, cut.main, cut.holdings[:, cut.main], rows[main])
            form = np.repeat(form, len(after), axis=0)
            form[:, 0, main] = self._form_of[stops[main], after]
        if second.any() and len(forms):
            after = self._after(position, int(self._second[position]), forms, rows[second])
            form = np.repeat(form, len(forms) + 1, axis=1)
            form[:, 1:, second] = self._form_of[stops[second], after]
        found: Array = self._onward[self._offsets[targets] + form]
        return found


def _largest_other(table: CostTable, position: int) -> int:
    """Slot of the largest live tensor but for the main one; `NOTHING` if there is none."""
    cut = table.cuts[position]
    others = [slot for slot in range(len(cut.tensors)) if slot != cut.main] if position else []
    return max(others, key=lambda slot: table.kinds[cut.kinds[slot]].nbytes_of_all, default=NOTHING)
