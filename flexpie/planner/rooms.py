"""Plans for several graphs that share the devices' memory: each leaves room for those that come after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Objective, Plan
from flexpie.core.strategy import AUTO
from flexpie.planner.cost import CostModel
from flexpie.planner.memory import memory_needs
from flexpie.planner.planning import PlanningResult, make_plan


def plan_with_room(
    graph: LayerGraph,
    later: Sequence[LayerGraph],
    cluster: Cluster,
    *,
    scheme: str = AUTO,
    objective: str = Objective.LATENCY.value,
    cost_model: CostModel | None = None,
) -> PlanningResult:
    """The plan of a graph that leaves room for `later` ones, which will be planned after it, one after another.

    Where the best plan does not, a plan within an equal part of each device's memory is tried, then the one that needs
    least. Where none of them leaves enough, it is the best plan all the same: better some of them than none. For the
    arguments and errors see `flexpie.planner.planning.make_plan`.
    """
    planner = _Planner(scheme, cost_model)
    best = planner.plan(graph, cluster, objective)
    if not later or all(device.memory_bytes is None for device in cluster.devices):
        return best
    if planner.all_fit(later, _without(cluster, graph, best.plan)):
        return best
    frugal = [(_part(cluster, 1 + len(later)), objective)]
    if scheme == AUTO:
        frugal.append((cluster, Objective.MEMORY.value))
    for available, aim in frugal:
        result = planner.plan_if_fits(graph, available, aim)
        if result is not None and planner.all_fit(later, _without(cluster, graph, result.plan)):
            return result
    return best


@dataclass(frozen=True)
class _Planner:
    scheme: str
    cost_model: CostModel | None

    def plan(self, graph: LayerGraph, cluster: Cluster, objective: str) -> PlanningResult:
        return make_plan(graph, cluster, scheme=self.scheme, objective=objective, cost_model=self.cost_model)

    def plan_if_fits(self, graph: LayerGraph, cluster: Cluster, objective: str) -> PlanningResult | None:
        try:
            return self.plan(graph, cluster, objective)
        except FlexPieError as error:
            if error.code is not ErrorCode.OUT_OF_MEMORY:
                raise
            return None

    def all_fit(self, graphs: Sequence[LayerGraph], cluster: Cluster) -> bool:
        """Whether plans for all of some graphs are found, one after another."""
        for number, graph in enumerate(graphs):
            equal = _part(cluster, len(graphs) - number)
            result = self.plan_if_fits(graph, equal, Objective.LATENCY.value)
            result = result or self.plan_if_fits(graph, cluster, Objective.LATENCY.value)
            if result is None:
                return False
            cluster = _without(cluster, graph, result.plan)
        return True


def _part(cluster: Cluster, parts: int) -> Cluster:
    """A cluster with an equal part of each device's memory."""
    budgets = [device.memory_bytes for device in cluster.devices]
    return _with_memory(cluster, [None if budget is None else max(1, budget // parts) for budget in budgets])


def _without(cluster: Cluster, graph: LayerGraph, plan: Plan) -> Cluster:
    """A cluster with the memory that a plan leaves."""
    needs = memory_needs(graph, plan.segments, len(cluster.devices))
    budgets = [device.memory_bytes for device in cluster.devices]
    pairs = zip(budgets, needs, strict=True)
    return _with_memory(cluster, [None if budget is None else max(1, budget - need.total) for budget, need in pairs])


def _with_memory(cluster: Cluster, budgets: Sequence[int | None]) -> Cluster:
    devices = [replace(device, memory_bytes=nbytes) for device, nbytes in zip(cluster.devices, budgets, strict=True)]
    return replace(cluster, devices=tuple(devices))
