"""The plan of devices that take turns: each has the whole model and answers requests alone (`flexpie.core.turns`)."""

from __future__ import annotations

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import DATA_PARALLEL
from flexpie.planner.budget import exceeding
from flexpie.planner.cost import CostModel
from flexpie.planner.evaluation import evaluate, plans_alone
from flexpie.planner.memory import memory_needs
from flexpie.planner.occupation import Occupations


def data_parallel_plan(graph: LayerGraph, cluster: Cluster, model: CostModel) -> Plan:
    """The whole model on every device that has the memory for it, or on all where none has; each answers requests in
    proportion to how many it could alone. With its predicted costs."""
    if not graph.layers:
        return evaluate(graph, cluster, (), model)
    alone, devices = plans_alone(graph, cluster, model), len(cluster.devices)
    occupations = Occupations(cluster, model)
    rates = [1 / _busy_seconds(occupations, graph, plan, device) for device, plan in enumerate(alone)]
    fits = [not exceeding(cluster, memory_needs(graph, plan.segments, devices)) for plan in alone]
    rates = [rate if fit or not any(fits) else 0.0 for rate, fit in zip(rates, fits, strict=True)]
    shares = tuple(rate / max(rates) for rate in rates)
    return evaluate(graph, cluster, (Segment(0, len(graph.layers), DATA_PARALLEL, shares),), model)


def _busy_seconds(occupations: Occupations, graph: LayerGraph, plan: Plan, device: int) -> float:
    """For how long a request keeps the busiest resource of a device busy."""
    return max(1e-12, *(float(busy[device]) for busy in occupations.of_plan(graph, plan).by_kind))
