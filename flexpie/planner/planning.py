"""From a layer graph and a cluster to a plan, with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import OBJECTIVES, Objective, Plan
from flexpie.core.strategy import AUTO, SINGLE_DEVICE, STRATEGIES
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.budget import exceeding, search_within_budgets
from flexpie.planner.candidates import all_candidates, share_choices
from flexpie.planner.cost import CostModel
from flexpie.planner.estimator import default_cost_model
from flexpie.planner.evaluation import evaluate, plans_alone
from flexpie.planner.explanation import memory_remark, reason_for
from flexpie.planner.memory import memory_needs
from flexpie.planner.objectives import best_for
from flexpie.planner.occupation import Occupation, Occupations
from flexpie.planner.simulation import Simulation, simulate
from flexpie.planner.sizing import advice


@dataclass(frozen=True)
class PlanningResult:
    """A plan and what to compare it with."""

    plan: Plan
    """With predicted costs."""
    simulation: Simulation
    """Of one request with the plan: devices wait for their peers, not for a barrier as in the plan's own costs."""
    single_device: Plan
    """The whole model on the device that is predicted to be fastest alone (whether or not it fits its memory)."""
    single_device_seconds: float
    """What one request is predicted to take there, simulated."""
    exact: bool
    """Whether no better plan exists in the planner's space, as far as the cost model is right."""
    reason: str
    """One or two sentences for the user: why this plan."""
    occupation: Occupation
    """How busy each request keeps the cluster, and so how many requests per second the plan can answer."""
    single_device_fits: bool
    """Whether the best single device has the memory for it."""
    objective: Objective = Objective.LATENCY
    gap: float | None = None
    """By which part of its own value the objective of another plan could be better at most; None if not known."""

    @property
    def latency_seconds(self) -> float:
        """What one request is predicted to take with the plan."""
        return self.simulation.latency


def make_plan(
    graph: LayerGraph,
    cluster: Cluster,
    *,
    scheme: str = AUTO,
    objective: str = Objective.LATENCY.value,
    cost_model: CostModel | None = None,
) -> PlanningResult:
    """The best plan that fits the devices' memory; never predicted worse than the best single device that fits.

    Parameters
    ----------
    scheme: one of `flexpie.core.strategy.STRATEGIES`: ``auto`` searches; the others are `flexpie.planner.baselines`
        and schemes that every layer is forced to.
    objective: what a searched plan is best at, one of `flexpie.core.plan.OBJECTIVES`.
    cost_model: predicts times; by default `default_cost_model`: what was learned from traces.

    Raises FlexPieError: INVALID_ARGUMENT for an unknown scheme or objective, or an objective without a search;
    OUT_OF_MEMORY when no plan fits the budgets.
    """
    aim = _aim(scheme, objective)
    model = default_cost_model(cluster) if cost_model is None else cost_model
    devices = range(len(cluster.devices))
    alone = plans_alone(graph, cluster, model)
    best_alone = min(alone, key=lambda plan: plan.predicted_seconds)
    alone_fits = exceeding(cluster, memory_needs(graph, best_alone.segments, len(devices))) is None
    alone_simulation = simulate(graph, cluster, best_alone.segments, model)
    alone_seconds = alone_simulation.latency

    def result(plan: Plan, gap: float | None, reason: str = "", priced: bool = False) -> PlanningResult:
        simulation = alone_simulation if plan is best_alone else simulate(graph, cluster, plan.segments, model)
        if scheme == AUTO and aim is Objective.LATENCY and alone_fits and alone_seconds < simulation.latency:
            plan, simulation, gap = best_alone, alone_simulation, None
        reason = reason or reason_for(cluster, plan, simulation.latency, best_alone, alone_seconds, priced)
        occupation = Occupations(cluster, model).of_plan(graph, plan)
        return PlanningResult(
            plan, simulation, best_alone, alone_seconds, gap == 0, reason, occupation, alone_fits, aim, gap
        )

    if scheme != AUTO:
        plan = best_alone if scheme == SINGLE_DEVICE else baseline_plan(graph, cluster, scheme, model)
        if over := exceeding(cluster, memory_needs(graph, plan.segments, len(devices))):
            raise over.error(cluster, f"{scheme} was asked for")
        return result(plan, None, f"The strategy {scheme} was asked for.")
    if len(devices) == 1:
        if over := exceeding(cluster, memory_needs(graph, best_alone.segments, 1)):
            raise over.error(cluster, "no plan fits", advice(graph, cluster))
        return result(best_alone, 0.0)
    candidates = all_candidates(len(devices), share_choices(cluster))
    fit = search_within_budgets(graph, cluster, model, candidates, alone)
    if aim is Objective.LATENCY:
        return result(fit.plan, fit.gap, priced=fit.priced)
    best = best_for(aim, graph, cluster, model, candidates, [fit.plan, *alone])
    return result(best.plan, best.gap, f"{best.reason}{memory_remark(fit.priced)}")


def plan_given(graph: LayerGraph, cluster: Cluster, plan: Plan, cost_model: CostModel | None = None) -> PlanningResult:
    """A plan that is not searched (such as `flexpie.planner.plan_file` reads) with its predicted costs.

    Raises FlexPieError(OUT_OF_MEMORY) when it does not fit the budgets.
    """
    model = default_cost_model(cluster) if cost_model is None else cost_model
    devices = len(cluster.devices)
    if over := exceeding(cluster, memory_needs(graph, plan.segments, devices)):
        raise over.error(cluster, "the given plan")
    predicted = evaluate(graph, cluster, plan.segments, model)
    best_alone = baseline_plan(graph, cluster, SINGLE_DEVICE, model)
    alone_fits = exceeding(cluster, memory_needs(graph, best_alone.segments, devices)) is None
    simulation, alone_simulation = (simulate(graph, cluster, item.segments, model) for item in (predicted, best_alone))
    occupation = Occupations(cluster, model).of_plan(graph, predicted)
    return PlanningResult(
        predicted,
        simulation,
        best_alone,
        alone_simulation.latency,
        False,
        "The plan was given.",
        occupation,
        alone_fits,
    )


def _aim(scheme: str, objective: str) -> Objective:
    """What a plan is to be best at, if the two arguments go together."""
    if scheme not in STRATEGIES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Unknown scheme '{scheme}'.", f"Choose one of {', '.join(STRATEGIES)}."
        )
    if objective not in OBJECTIVES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Unknown objective '{objective}'.", f"Choose one of {', '.join(OBJECTIVES)}."
        )
    aim = Objective(objective)
    if scheme != AUTO and aim is not Objective.LATENCY:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            f"With the scheme {scheme} there is nothing to search for; the objective {objective} has no meaning.",
            f"Give the scheme {AUTO}, or no objective.",
        )
    return aim
