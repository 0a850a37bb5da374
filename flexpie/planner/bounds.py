"""Lower bounds of the time to a cut and from a cut on, by a relaxed problem that follows one live tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexpie.planner.cost import Array
from flexpie.planner.table import CostTable


@dataclass(frozen=True)
class Bounds:
    """Lower bounds in seconds (or in whatever `segment_seconds` counts).

    Of the live tensors at a cut, one is new: the layer in front yields it. The relaxed problem charges exchanges for
    that tensor alone, but for the first exchange, which brings the model's inputs from the master. As an exchange of
    more tensors never takes less time, no plan is faster. In a chain there is only one live tensor and the bounds are
    the optimum.
    """

    arriving: tuple[Array, ...]
    """Per cut and candidate: least cost of all up to the end of a segment that ends there with that candidate, [K];
    [1] at the first cut."""
    onward: tuple[Array, ...]
    """Per cut and candidate with which a segment ends there: least time from the cut to the end, [K]; [1] at the
    first cut."""

    def best(self) -> float:
        """No plan is faster than this."""
        return float(self.onward[0][0])


def main_exchange_seconds(table: CostTable, position: int) -> Array:
    """Seconds of the main tensor's exchange in front of each segment that begins at a cut, by the candidate with
    which it was produced, [K, N]; 0 where the cut has no main tensor or the segment does not read it. At the first
    cut, of everything that is sent, [1, N]."""
    cut = table.cuts[position]
    if position == 0:
        return table.joint_seconds(0, np.repeat(cut.holdings, len(cut.stop), axis=0), cut.needs)[None]
    rows = max(1, len(cut.candidates))
    slot = cut.main
    if slot < 0:
        return np.zeros((rows, len(cut.stop)))
    return table.alone_seconds(position, slot, cut.holdings[:, slot], cut.needs[:, slot])


def lower_bounds(table: CostTable, segment_seconds: tuple[Array, ...]) -> Bounds:
    """Lower bounds, given what each segment costs without its exchange ([N] per cut)."""
    costs = [
        main_exchange_seconds(table, position) + (segment_seconds[position] - cut.relief_seconds)
        for position, cut in enumerate(table.cuts)
    ]
    return Bounds(_arriving(table, costs), _onward(table, costs))


def _onward(table: CostTable, costs: list[Array]) -> tuple[Array, ...]:
    last = table.cuts[-1]
    onward = [np.zeros(max(1, len(cut.candidates))) for cut in table.cuts]
    if last.main >= 0:
        needs = table.gather[last.main : last.main + 1]
        onward[-1] = table.alone_seconds(len(table.cuts) - 1, last.main, last.holdings[:, last.main], needs)[:, 0]
    for position in range(len(table.cuts) - 2, -1, -1):
        onward[position] = (costs[position] + following(table, onward, position)).min(axis=1)
    return tuple(onward)


def _arriving(table: CostTable, costs: list[Array]) -> tuple[Array, ...]:
    arriving = [np.full(max(1, len(cut.candidates)), np.inf) for cut in table.cuts]
    arriving[0][:] = 0.0
    for position, cut in enumerate(table.cuts):
        reached = (arriving[position][:, None] + costs[position]).min(axis=0)
        for seconds, stop, choice in zip(reached, cut.stop, cut.choice, strict=True):
            arriving[stop][choice] = min(arriving[stop][choice], seconds)
    return tuple(arriving)


def following(table: CostTable, onward: list[Array] | tuple[Array, ...], position: int) -> Array:
    """The bound behind each segment that begins at a cut, [N]."""
    cut = table.cuts[position]
    return np.array([onward[stop][choice] for stop, choice in zip(cut.stop, cut.choice, strict=True)])
