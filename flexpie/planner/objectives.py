"""Plans that are best at something else than the time of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Objective, Plan
from flexpie.core.strategy import DATA_PARALLEL, PIPELINE
from flexpie.core.turns import turns
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.budget import exceeding
from flexpie.planner.candidates import Candidate
from flexpie.planner.cost import CostModel
from flexpie.planner.memory import memory_needs
from flexpie.planner.memory_saving import capacities, least_memory
from flexpie.planner.occupation import Occupations
from flexpie.planner.sizing import divided_plans
from flexpie.planner.table import CostTable, cost_table
from flexpie.planner.throughput import most_throughput


@dataclass(frozen=True)
class Best:
    """A plan and what is known of others."""

    plan: Plan
    gap: float | None
    """By which part of its own value another plan could be better at most; None if not known."""
    reason: str


def best_for(
    objective: Objective,
    graph: LayerGraph,
    cluster: Cluster,
    model: CostModel,
    candidates: Sequence[Candidate],
    plans: Sequence[Plan],
) -> Best:
    """The plan that is best at an objective (not the latency).

    Parameters
    ----------
    plans: known ones with their predicted costs, at least one of which fits the devices' memory; the others do not
        count.
    """
    if objective is Objective.THROUGHPUT:
        choose, more = _throughput, [baseline_plan(graph, cluster, name, model) for name in (PIPELINE, DATA_PARALLEL)]
    else:
        choose, more = _memory, divided_plans(graph, cluster, model)
    fitting = [
        plan
        for plan in (*plans, *more)
        if not exceeding(cluster, memory_needs(graph, plan.segments, len(plan.devices)))
    ]
    return choose(graph, cluster, model, cost_table(graph, len(cluster.devices), candidates, model), fitting)


def _throughput(graph: LayerGraph, cluster: Cluster, model: CostModel, table: CostTable, plans: Sequence[Plan]) -> Best:
    found = most_throughput(graph, cluster, model, table, plans)
    occupations = Occupations(cluster, model)
    fastest = min(plans, key=lambda plan: plan.predicted_seconds)
    before = occupations.of_plan(graph, fastest).requests_per_second
    reason = (
        f"With many requests in flight this plan is predicted to answer {found.occupation.requests_per_second:.3g} of "
        f"them per second; the plan with the lowest latency answers {before:.3g}."
    )
    if turns(found.plan.segments):
        reason += (
            " Every device that takes part has the whole model, and each request is answered by one of them, in turn."
        )
    return Best(found.plan, found.gap if table.complete else None, reason)


def _memory(graph: LayerGraph, cluster: Cluster, model: CostModel, table: CostTable, plans: Sequence[Plan]) -> Best:
    found = least_memory(graph, cluster, model, table, plans)
    fastest = min(plans, key=lambda plan: plan.predicted_seconds)
    limited = any(device.memory_bytes is not None for device in cluster.devices)
    before, after = (_described_need(graph, cluster, plan, limited) for plan in (fastest, found.plan))
    reason = f"This plan needs at most {after}; the plan with the lowest latency needs {before}."
    return Best(found.plan, found.gap if table.complete else None, reason)


def _described_need(graph: LayerGraph, cluster: Cluster, plan: Plan, limited: bool) -> str:
    """The largest need of a device, and which device that is."""
    needs = memory_needs(graph, plan.segments, len(plan.devices))
    parts = [need.total / room for need, room in zip(needs, capacities(cluster).tolist(), strict=True)]
    largest = parts.index(max(parts))
    device = cluster.devices[largest]
    amount = f"{needs[largest].total / 1e6:.1f} MB"
    if limited and device.memory_bytes is not None:
        return f"{amount} of the {device.memory_bytes / 1e6:.1f} MB of {device.name}"
    return f"{amount} on {device.name}"
