"""Dynamic programming over cuts and the holdings of the tensors that are live there, on arrays of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.plan import Segment
from flexpie.planner.bounds import lower_bounds
from flexpie.planner.cost import Array
from flexpie.planner.extension import extended
from flexpie.planner.sweep import Limits, Sweep
from flexpie.planner.table import CostTable, Cut

SCOUT_STATES = 4
"""States per cut of the first sweep, which only looks for a good plan. On ResNet-101 its plan is the best one
already, on BERT-base it is within 0.7 % of what 128 states find."""
MOST_TRANSITIONS = 150_000
"""Steps from state to state that the second sweep may take; the search is exact unless it needs more."""
FALLBACK_STATES = 8
"""States per cut for the rest of the second sweep once it has taken so many steps."""
BUDGET_STATES = 16
MOST_BUDGET_TRANSITIONS = 10_000
"""The same for a search within memory budgets, which has many more states."""
SEGMENT_SECONDS = 1e-9
"""Added per segment: of plans that are equally fast, the one with fewer segments is preferred."""


@dataclass(frozen=True)
class SearchResult:
    """The best sequence of segments."""

    segments: tuple[Segment, ...]
    seconds: float
    """Their cost: predicted seconds plus prices, and `SEGMENT_SECONDS` per segment."""
    exact: bool
    """Whether no plan is better: no state was dropped for lack of room, and no segment is missing."""


def search(
    table: CostTable,
    weight_prices: Sequence[float] | None = None,
    most_transitions: int = MOST_TRANSITIONS,
) -> SearchResult:
    """The cheapest way through a table.

    Parameters
    ----------
    weight_prices: seconds per byte of weights, per device; none by default.
    most_transitions: steps after which only the most promising states of each cut are followed; 0 for a quick
        search that is content with the first good way.

    A first sweep with few states finds a good plan. The second drops only states that cannot beat it, by
    `flexpie.planner.bounds`, and so finds the best; where devices are unequal it has more segments to choose from.
    """
    costs = tuple(_segment_seconds(cut, weight_prices) for cut in table.cuts)
    bounds = lower_bounds(table, costs)
    scout = Sweep(table, costs, bounds, Limits(fallback_states=SCOUT_STATES))
    found = scout.run()
    assert found is not None, "some candidate ends at every cut"
    longer = any(cut.relief_seconds.any() for cut in table.cuts)
    if most_transitions == 0 or not (longer or scout.dropped):
        return SearchResult(found[1], found[0], table.complete and not (longer or scout.dropped))
    if longer:
        table = extended(table, bounds, weight_prices, found[0])
        costs = tuple(_segment_seconds(cut, weight_prices) for cut in table.cuts)
    sweep = Sweep(table, costs, bounds, Limits(found[0], most_transitions, FALLBACK_STATES))
    seconds, segments = min((found, sweep.run() or found), key=lambda way: way[0])
    return SearchResult(segments, seconds, table.complete and not sweep.dropped)


def search_within(table: CostTable, budgets: Sequence[float], weight_prices: Sequence[float]) -> SearchResult:
    """A cheap way through a table that keeps each device's weights within its budget; without segments if none
    was found.

    Parameters
    ----------
    budgets: bytes per device; infinite where there is no limit.
    weight_prices: seconds per byte of weights, per device. They do not count as time, but steer: without them the
        first segments may use up what later ones need more.

    Exact only on small graphs: states with different weights so far are different states. Weights that two layers
    share count twice.
    """
    costs = tuple(_segment_seconds(cut, weight_prices) for cut in table.cuts)
    limits = Limits(
        transitions=MOST_BUDGET_TRANSITIONS,
        fallback_states=BUDGET_STATES,
        budgets=np.asarray(budgets, dtype=np.float64),
        weights_onward=table.weights_onward,
    )
    sweep = Sweep(table, costs, lower_bounds(table, costs), limits)
    seconds, segments = sweep.run() or (math.inf, ())
    return SearchResult(segments, seconds, table.complete and not sweep.dropped)


def _segment_seconds(cut: Cut, prices: Sequence[float] | None) -> Array:
    seconds: Array = cut.compute_seconds.max(axis=1) if len(cut.stop) else np.zeros(0)
    seconds = seconds + SEGMENT_SECONDS
    if prices is not None and any(prices):
        seconds = seconds + cut.weight_bytes @ np.asarray(prices, dtype=np.float64)
    return seconds
