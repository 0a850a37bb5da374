"""Dynamic programming over cuts and the holdings of the tensors that are live there, on arrays of numbers."""

from __future__ import annotations

import heapq
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.plan import Segment
from flexpie.planner.bounds import lower_bounds, step_seconds
from flexpie.planner.closer_bounds import LookAhead
from flexpie.planner.cost import Array
from flexpie.planner.extension import extended
from flexpie.planner.longer import bound_with_longer
from flexpie.planner.states import Limits, States
from flexpie.planner.sweep import Sweep
from flexpie.planner.table import CostTable, Cut

SCOUT_STATES = 4
"""States per cut of the first sweep, which only looks for a good plan. On ResNet-101 its plan is the best one
already, on BERT-base it is within 0.7 % of what 128 states find."""
CLOSE = 0.75
"""Part of a known plan's cost that bounds must reach for closer ones to be worth working out."""
FAR = 0.6
"""Part of the first plan's cost below which bounds are so far from it that no plan of the first sweep would bring
them close, nor exclude much in the second one: the first is left out."""
MOST_TRANSITIONS = 100_000
"""Steps from state to state that the second sweep may take; the search is exact unless it needs more."""
FAR_TRANSITIONS = 20_000
"""The same where bounds are not close, or segments are missing: the search would not be exact with more either."""
FALLBACK_STATES = 8
"""States per cut for the rest of the second sweep once it has taken so many steps."""
BUDGET_STATES = 16
MOST_BUDGET_TRANSITIONS = 10_000
"""The same for a search within memory budgets, which has many more states."""
MOST_LOOKS = 600
"""Beginnings of plans that a search for one which passes a test looks at."""
SEGMENT_SECONDS = 1e-9
"""Added per segment: of plans that are equally fast, the one with fewer segments is preferred."""


@dataclass(frozen=True)
class SearchResult:
    """The best sequence of segments."""

    segments: tuple[Segment, ...]
    seconds: float
    """Their cost: predicted seconds plus prices, and `SEGMENT_SECONDS` per segment."""
    bound: float
    """No plan costs less; `seconds` where they are the best."""
    complete: bool
    """Whether the bound holds for all plans, not only for those of the table's segments."""

    @property
    def exact(self) -> bool:
        """Whether no plan is better."""
        return self.complete and self.bound >= self.seconds


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
    first_costs, first_bounds = costs, bounds
    dive = Sweep(table, costs, bounds, Limits(fallback_states=1, fallback_steps=1))
    found, dropped = dive.run(), dive.dropped_seconds
    assert found is not None, "some candidate ends at every cut"
    longer = any(cut.relief_seconds.any() for cut in table.cuts)
    far = most_transitions > 0 and not longer and bounds.best() < FAR * found[0]
    if dropped < found[0] and not far:
        scout = Sweep(table, costs, bounds, Limits(found[0], fallback_states=SCOUT_STATES))
        found, dropped = min((found, scout.run() or found), key=lambda way: way[0]), scout.dropped_seconds
    bound = min(found[0], bounds.best() if longer else dropped)
    complete = table.complete
    if most_transitions and (bound < found[0] or longer):
        whole, most = table, found[0]
        if longer:
            table = extended(table, bounds, weight_prices, most)
            costs = tuple(_segment_seconds(cut, weight_prices) for cut in table.cuts)
            bounds = lower_bounds(table, costs)
        limited = table.growth.limited
        close = (table.complete or limited) and bounds.best() >= CLOSE * most
        if close or most_transitions > MOST_TRANSITIONS:
            bounds = LookAhead(table, costs, bounds, most).raised(most_transitions)
        elif not limited:  # what a plan is compared with is to be as good as can be found
            most_transitions = min(most_transitions, FAR_TRANSITIONS)
        sweep = Sweep(table, costs, bounds, Limits(most, most_transitions, FALLBACK_STATES))
        found = min((found, sweep.run() or found), key=lambda way: way[0])
        bound, complete = min(found[0], sweep.dropped_seconds), table.complete
        table = whole
    if not complete and not table.growth.limited:
        cuts = range(len(table.cuts))
        steps = [step_seconds(table, first_bounds.exchange, first_costs, position) for position in cuts]
        bound, complete = min(bound, bound_with_longer(table, steps)), True
    return SearchResult(found[1], found[0], bound, complete)


def search_fitting(
    table: CostTable, fits: Callable[[tuple[Segment, ...]], bool], upper: float, most_looks: int = MOST_LOOKS
) -> SearchResult:
    """The cheapest way through a table that passes a test and costs at most `upper`; without segments if none was
    found.

    Parameters
    ----------
    fits: whether segments pass, which begin at the first layer; what fails must also fail with more segments behind.
    most_looks: how often to ask at most; the search is exact unless it needs more.

    Best first: of all beginnings of plans the one is followed whose lower bound is the least.
    """
    costs = tuple(_segment_seconds(cut, None) for cut in table.cuts)
    bounds = lower_bounds(table, costs)
    free = np.full(table.growth.devices, math.inf)
    limits = Limits(upper, sys.maxsize, budgets=free, weights_onward=np.zeros(len(table.cuts)))
    sweep, last = Sweep(table, costs, bounds, limits), len(table.cuts) - 1
    counter = itertools.count()
    waiting: list[tuple[float, int, int, States, tuple[Segment, ...]]] = []
    heapq.heappush(waiting, (bounds.best(), next(counter), 0, sweep.start(), ()))
    for _ in range(most_looks):
        if not waiting:
            return SearchResult((), math.inf, math.inf, table.complete)
        least, _, cut, state, segments = heapq.heappop(waiting)
        if not fits(segments):
            continue
        if cut == last:
            if (seconds := float(sweep.ending(state)[0])) <= least:
                return SearchResult(segments, seconds, seconds, table.complete)
            heapq.heappush(waiting, (seconds, next(counter), cut, state, segments))
            continue
        for stop, reached in sweep.expand(cut, state):
            for at, seconds in enumerate(reached.least.tolist()):
                segment = table.segment(cut, int(reached.origin[at, 2]))
                one = reached.take(slice(at, at + 1))
                heapq.heappush(waiting, (seconds, next(counter), stop, one, (*segments, segment)))
    return SearchResult((), math.inf, waiting[0][0] if waiting else math.inf, False)


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
        weights_onward=table.growth.weights_onward(),
    )
    sweep = Sweep(table, costs, lower_bounds(table, costs), limits)
    seconds, segments = sweep.run() or (math.inf, ())
    return SearchResult(segments, seconds, min(seconds, sweep.dropped_seconds), table.complete)


def _segment_seconds(cut: Cut, prices: Sequence[float] | None) -> Array:
    seconds: Array = cut.compute_seconds.max(axis=1) if len(cut.stop) else np.zeros(0)
    seconds = seconds + SEGMENT_SECONDS
    if prices is not None and any(prices):
        seconds = seconds + cut.weight_bytes @ np.asarray(prices, dtype=np.float64)
    return seconds
