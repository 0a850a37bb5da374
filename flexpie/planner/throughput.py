"""The plan that answers most requests per second when many are in flight, and a bound of what any plan could answer.

In the long run a request takes as long as the resource (processor or port) that it keeps busy the longest; the others
wait. What a plan keeps busy adds up over segments and exchanges. So the cheapest plan at given prices of the
resources' seconds is found by the planner's dynamic programming, and with prices that add up to 1 its cost is a lower
bound of every plan's longest time: no average is above the maximum. Sweeps that leave out whatever keeps a resource
busy for too long (`flexpie.planner.resources`) find good plans; where they leave out nothing else, they prove that
there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.planner.bounds import lower_bounds
from flexpie.planner.budget import exceeding
from flexpie.planner.cost import Array, CostModel, LayerWork, MessageCosts
from flexpie.planner.evaluation import evaluate, merged
from flexpie.planner.memory import memory_needs
from flexpie.planner.occupation import Occupation, Occupations
from flexpie.planner.resources import Prices, ResourceSweep
from flexpie.planner.search import SEGMENT_SECONDS, search
from flexpie.planner.table import CostTable, Cut

_ROUNDS = 16
"""Corrections of the prices, at most."""
_MOST_PRICES = 3
"""Prices whose bounds a search for better plans looks at."""
_GOOD_ENOUGH = 5e-3
"""Part of the period that is not worth another search."""
_MOST_SEARCHES = 12
_NEXT = 1 / 3
"""Where in the range between the bound and the best period the next search looks; most first ranges are too wide."""
_ROOM_STEPS = 3
"""Corrections of what the activations leave to the weights."""


@dataclass(frozen=True)
class Throughput:
    """The best plan that was found, and what is known of all others."""

    plan: Plan
    occupation: Occupation
    bound_seconds: float
    """No plan in the planner's space has a shorter period, if its table is complete."""

    @property
    def gap(self) -> float:
        """By which part the shortest period may be shorter than this plan's."""
        period = self.occupation.period_seconds
        return max(0.0, 1 - self.bound_seconds / period) if period > 0 else 0.0


def most_throughput(
    graph: LayerGraph, cluster: Cluster, model: CostModel, table: CostTable, plans: Sequence[Plan]
) -> Throughput:
    """The plan with the shortest period that fits the devices' memory, of `plans` and of what searches find.

    Parameters
    ----------
    table: the graph's segments on this cluster, with the model's costs.
    plans: one or more that fit the memory, with their predicted costs.
    """
    return _Throughput(graph, cluster, model, table, plans).found()


class _Uses:
    """What `flexpie.planner.resources.Uses` asks for: busy seconds of processors, outgoing and incoming ports, n + 1
    of each, and the part of its memory that weights take of each device that has a limit."""

    def __init__(self, cluster: Cluster, occupations: Occupations) -> None:
        self._occupations = occupations
        self.devices = len(cluster.devices)
        self.times = 3 * (self.devices + 1)
        budgets = [device.memory_bytes for device in cluster.devices]
        self.limited = [at for at, budget in enumerate(budgets) if budget is not None]
        self.budgets = np.array([max(1, budget) for budget in budgets if budget is not None], dtype=np.float64)

    def of_segments(self, cut: Cut) -> Array:
        used = np.zeros((len(cut.stop), self.times + len(self.limited)))
        used[:, : self.devices] = cut.compute_seconds
        used[:, self.times :] = cut.weight_bytes[:, self.limited] / self.budgets
        return used

    def of_exchanges(self, nbytes: Array) -> Array:
        busy = self.busy(nbytes)
        return np.concatenate((busy, np.zeros((*busy.shape[:-1], len(self.limited)))), axis=-1)

    def busy(self, nbytes: Array) -> Array:
        """Busy seconds of exchanges alone."""
        busy = self._occupations.of_exchange(nbytes)
        return busy.reshape(*busy.shape[:-2], self.times)


@dataclass(frozen=True)
class _Priced:
    """Busy seconds of exchanges times their prices, in the place of a cost model's seconds."""

    model: CostModel
    uses: _Uses
    prices: Array

    @property
    def messages(self) -> MessageCosts:
        return self.model.messages

    @property
    def twins(self) -> tuple[int, ...]:
        return self.model.twins

    def compute_seconds(self, device: int, works: Sequence[LayerWork]) -> Array:
        return self.model.compute_seconds(device, works)

    def exchange_seconds(self, nbytes: Array) -> Array:
        seconds: Array = self.uses.busy(nbytes) @ self.prices
        return seconds


def _priced(table: CostTable, uses: _Uses, prices: Array) -> CostTable:
    """The table whose costs are busy seconds times their prices; of computing, the sum over the devices."""
    cuts = tuple(
        replace(
            cut,
            compute_seconds=(cut.compute_seconds @ prices[: uses.devices])[:, None],
            relief_seconds=np.zeros_like(cut.relief_seconds),
        )
        for cut in table.cuts
    )
    kinds = tuple(kind.without_seconds() for kind in table.kinds)
    return replace(table, cuts=cuts, kinds=kinds, model=_Priced(table.model, uses, prices))


class _Throughput:
    def __init__(
        self, graph: LayerGraph, cluster: Cluster, model: CostModel, table: CostTable, plans: Sequence[Plan]
    ) -> None:
        self.graph, self.cluster, self.model, self.table = graph, cluster, model, table
        self.occupations = Occupations(cluster, model)
        self.uses = _Uses(cluster, self.occupations)
        self.bound = 0.0
        self.prices: list[Prices] = []
        self.known = [(plan, self.occupations.of_plan(graph, plan)) for plan in plans]
        self.best = min(self.known, key=lambda found: found[1].period_seconds)

    def found(self) -> Throughput:
        """See `most_throughput`."""
        if self._period > 0:
            self._correct_prices()
            self._tighten()
        plan, occupation = self.best
        return Throughput(plan, occupation, min(self.bound, self._period))

    @property
    def _period(self) -> float:
        return self.best[1].period_seconds

    # ------------------------------------------------------------------------------------------- bounds

    def _correct_prices(self) -> None:
        """Find prices with a high bound: those at which the cheapest of the plans known so far is dearest. The plan
        that is cheapest at these prices joins the known ones."""
        known = [np.concatenate(occupation.by_kind) for _, occupation in self.known]
        for _ in range(_ROUNDS):
            prices, promised = dearest_prices(np.array(known))
            least, segments = self._cheapest(prices)
            self.bound = max(self.bound, least)
            plan = self._evaluated(segments)
            known.append(np.concatenate(self.occupations.of_plan(self.graph, plan).by_kind))
            self._consider(plan)
            if known[-1] @ prices >= promised * (1 - _GOOD_ENOUGH):
                break
        self.prices.sort(key=lambda item: -item.onward[0][0])

    def _cheapest(self, prices: Array) -> tuple[float, tuple[Segment, ...]]:
        """A lower bound of what all plans cost at some prices, and a plan that costs little more."""
        table = _priced(self.table, self.uses, prices)
        bounds = lower_bounds(table, tuple(cut.compute_seconds[:, 0] for cut in table.cuts))
        self.prices.append(Prices(np.append(prices, np.zeros(len(self.uses.limited))), bounds.by_cut()))
        result = search(table, most_transitions=0)
        least = bounds.best()
        if result.exact:
            least = max(least, result.seconds - len(self.graph.layers) * SEGMENT_SECONDS)
        return least, result.segments

    # ------------------------------------------------------------------------------------- better plans

    def _evaluated(self, segments: Sequence[Segment]) -> Plan:
        return evaluate(self.graph, self.cluster, merged(segments), self.model)

    def _consider(self, plan: Plan) -> Array | None:
        """Keep a plan that is better than the best one, if it fits the memory. Else returns by which part of its
        memory each limited device has too little."""
        needs = memory_needs(self.graph, plan.segments, self.uses.devices) if self.uses.limited else ()
        if needs and exceeding(self.cluster, needs):
            totals = np.array([needs[device].total for device in self.uses.limited])
            return np.maximum(totals / self.uses.budgets - 1, 0.0)
        occupation = self.occupations.of_plan(self.graph, plan)
        if occupation.period_seconds < self._period:
            self.best = plan, occupation
        return None

    def _tighten(self) -> None:
        """Ask for plans with shorter and shorter periods."""
        sweep = ResourceSweep(self.table, self.uses, self.prices[:_MOST_PRICES])
        least = self.bound
        for _ in range(_MOST_SEARCHES):
            if self._period - least <= _GOOD_ENOUGH * self._period:
                break
            wanted = least + (self._period - least) * _NEXT
            found, possible = self._search(sweep, wanted)
            if not found:
                least = wanted
            if not possible:
                self.bound = wanted

    def _search(self, sweep: ResourceSweep, period: float) -> tuple[bool, bool]:
        """Search for a plan with a shorter period; the weights get what the activations of the plan before leave.
        Returns whether one was found, and whether there may be one."""
        room = np.ones(len(self.uses.limited))
        for _ in range(_ROOM_STEPS):
            way = sweep.run(np.append(np.full(self.uses.times, period), room))
            if way is None:
                return False, sweep.dropped or bool((room < 1).any())
            lacking = self._consider(self._evaluated(way.segments))
            if lacking is None:
                return True, True
            room = np.where(lacking > 0, np.minimum(room, way.used[self.uses.times :]) - lacking, room)
        return False, True


def dearest_prices(used: Array) -> tuple[Array, float]:
    """The prices of R resources, ≥ 0 and with sum 1, at which the cheapest of some plans costs most; and what it costs.

    `used` is what each plan uses of each resource, [plans, R].
    """
    from scipy.optimize import linprog

    plans, resources = used.shape
    scale = float(used.max()) or 1.0
    # Variables: the prices, and the cost, which is maximised and at most what each plan costs.
    answer = linprog(
        np.append(np.zeros(resources), -1.0),
        A_ub=np.hstack((-used / scale, np.ones((plans, 1)))),
        b_ub=np.zeros(plans),
        A_eq=np.append(np.ones(resources), 0.0)[None],
        b_eq=[1.0],
        method="highs",
    )
    prices = np.maximum(answer.x[:-1], 0.0)
    return prices / prices.sum(), float(answer.x[-1]) * scale
