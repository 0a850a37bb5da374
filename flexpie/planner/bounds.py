"""Lower bounds of the time to a cut and from a cut on, by a relaxed problem that follows one live tensor."""

from __future__ import annotations

from collections.abc import Sequence
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

    table: CostTable
    arriving: Array
    """Least cost of all up to the end of a segment that ends with a candidate, [candidates of all cuts]; see
    `CostTable.offsets`."""
    onward: Array
    """Least time from the end of a segment that ends with a candidate to the end of all, [candidates of all cuts]."""
    onward_fresh: Array
    """The same where that segment has produced all that is live; see `CostTable.fresh`."""
    exchange: tuple[Array, ...]
    """Per cut: seconds of the main tensor's exchange in front of a segment, by the candidate with which the tensor was
    produced and by what the segment reads (`CostTable.reads`), [K, U]; 0 where the cut has no main tensor or it is not
    read. At the first cut, of everything that is sent, [1, U]."""

    def best(self) -> float:
        """No plan is faster than this."""
        return float(self.onward_fresh[0])

    def by_cut(self) -> tuple[Array, ...]:
        """`onward` of each cut's candidates."""
        return tuple(self.onward[self.table.of_cut(position)] for position in range(len(self.table.cuts)))

    def following(self, position: int) -> Array:
        """The bound behind each segment that begins at a cut, [N]."""
        targets = self.table.targets[position]
        return np.where(self.table.fresh[position], self.onward_fresh[targets], self.onward[targets])


def lower_bounds(table: CostTable, segment_seconds: tuple[Array, ...]) -> Bounds:
    """Lower bounds, given what each segment costs without its exchange ([N] per cut)."""
    exchange = tuple(_main_exchange_seconds(table, position) for position in range(len(table.cuts)))
    costs = [step_seconds(table, exchange, segment_seconds, position) for position in range(len(table.cuts))]
    onward = _onward(table, costs)
    return Bounds(table, _arriving(table, costs), onward, onward, exchange)


def step_seconds(table: CostTable, exchange: Sequence[Array], segment_seconds: Sequence[Array], position: int) -> Array:
    """What each segment that begins at a cut costs at least with its exchange, by the candidate in front, [K, N]."""
    cut, reads = table.cuts[position], table.reads[position]
    seconds: Array = exchange[position][:, reads.of_segment] + (segment_seconds[position] - cut.relief_seconds)
    return seconds


def _main_exchange_seconds(table: CostTable, position: int) -> Array:
    cut, needs = table.cuts[position], table.reads[position].needs
    if position == 0:
        return table.joint_seconds(0, np.repeat(cut.holdings, len(needs), axis=0), needs)[None]
    slot = cut.main
    if slot < 0:
        return np.zeros((max(1, len(cut.candidates)), len(needs)))
    return table.alone_seconds(position, slot, cut.holdings[:, slot], needs[:, slot])


def final_seconds(table: CostTable) -> Array:
    """Least time of gathering the outputs, by the candidate with which the last segment ends, [candidates of all cuts];
    0 for candidates of other cuts."""
    last, found = table.cuts[-1], np.zeros(table.offsets[-1])
    if last.main >= 0:
        needs = table.gather[last.main : last.main + 1]
        end = table.alone_seconds(len(table.cuts) - 1, last.main, last.holdings[:, last.main], needs)[:, 0]
        found[table.of_cut(len(table.cuts) - 1)] = end
    return found


def _onward(table: CostTable, costs: list[Array]) -> Array:
    onward = final_seconds(table)
    for position in range(len(table.cuts) - 2, -1, -1):
        onward[table.of_cut(position)] = (costs[position] + onward[table.targets[position]]).min(axis=1)
    return onward


def _arriving(table: CostTable, costs: list[Array]) -> Array:
    arriving = np.full(table.offsets[-1], np.inf)
    arriving[table.of_cut(0)] = 0.0
    for position, cost in enumerate(costs):
        reached = (arriving[table.of_cut(position)][:, None] + cost).min(axis=0)
        np.minimum.at(arriving, table.targets[position], reached)
    return arriving


def following(table: CostTable, onward: Sequence[Array], position: int) -> Array:
    """What is known to come behind each segment that begins at a cut, [N], given that by cut and candidate."""
    found: Array = np.concatenate(onward)[table.targets[position]]
    return found
