"""From a layer graph and a cluster to a plan, with the reason for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.strategy import AUTO, SINGLE_DEVICE, STRATEGIES
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.budget import Fit, exceeding, search_within_budgets
from flexpie.planner.candidates import all_candidates, share_choices
from flexpie.planner.cost import CostModel
from flexpie.planner.estimator import default_cost_model
from flexpie.planner.evaluation import evaluate
from flexpie.planner.explanation import reason_for
from flexpie.planner.forced import single_segments
from flexpie.planner.memory import memory_needs
from flexpie.planner.occupation import Occupation, Occupations


@dataclass(frozen=True)
class PlanningResult:
    """A plan and what to compare it with."""

    plan: Plan
    """With predicted costs."""
    single_device: Plan
    """The whole model on the device that is predicted to be fastest alone (whether or not it fits its memory)."""
    exact: bool
    """Whether no better plan exists in the planner's space, as far as the cost model is right."""
    reason: str
    """One or two sentences for the user: why this plan."""
    occupation: Occupation
    """How busy each request keeps the cluster, and so how many requests per second the plan can answer."""


def make_plan(
    graph: LayerGraph, cluster: Cluster, *, scheme: str = AUTO, cost_model: CostModel | None = None
) -> PlanningResult:
    """The fastest plan that fits the devices' memory; never predicted slower than the best single device that fits.

    Parameters
    ----------
    scheme: one of `flexpie.core.strategy.STRATEGIES`: ``auto`` searches; the others are `flexpie.planner.baselines`
        and schemes that every layer is forced to.
    cost_model: predicts times; by default `default_cost_model`: what was learned from traces.

    Raises FlexPieError: INVALID_ARGUMENT for an unknown scheme, OUT_OF_MEMORY when no plan fits the budgets.
    """
    if scheme not in STRATEGIES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Unknown scheme '{scheme}'.", f"Choose one of {', '.join(STRATEGIES)}."
        )
    model = default_cost_model(cluster) if cost_model is None else cost_model
    occupations = Occupations(cluster, model)
    devices = range(len(cluster.devices))
    alone = [evaluate(graph, cluster, single_segments(graph, len(devices), d), model) for d in devices]
    best_alone = min(alone, key=lambda plan: plan.predicted_seconds)
    if scheme != AUTO:
        plan = best_alone if scheme == SINGLE_DEVICE else baseline_plan(graph, cluster, scheme, model)
        needs = memory_needs(graph, plan.segments, len(devices))
        if over := exceeding(cluster, needs):
            raise over.error(cluster, f"{scheme} was asked for")
        reason = f"The strategy {scheme} was asked for."
        return PlanningResult(plan, best_alone, False, reason, occupations.of_plan(graph, plan))
    if len(devices) == 1:
        segments: Sequence[Segment] = best_alone.segments
        fit = Fit(best_alone, exact=True, priced=False)
        if over := exceeding(cluster, memory_needs(graph, segments, 1)):
            raise over.error(cluster, "no plan fits")
    else:
        candidates = all_candidates(len(devices), share_choices(cluster))
        fit = search_within_budgets(graph, cluster, model, candidates, alone)
    reason = reason_for(cluster, fit.plan, best_alone, fit.priced)
    return PlanningResult(fit.plan, best_alone, fit.exact, reason, occupations.of_plan(graph, fit.plan))


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
    occupation = Occupations(cluster, model).of_plan(graph, predicted)
    return PlanningResult(predicted, best_alone, False, "The plan was given.", occupation)
