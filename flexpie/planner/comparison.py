"""Compares a plan with what else could have been done, and says where the time differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan
from flexpie.core.strategy import AUTO, BASELINES, SINGLE_DEVICE
from flexpie.core.turns import plan_of_lone_request
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.budget import exceeding
from flexpie.planner.cost import CostModel
from flexpie.planner.evaluation import same_division
from flexpie.planner.explanation import milliseconds
from flexpie.planner.memory import MemoryNeed, memory_needs
from flexpie.planner.simulation import simulate
from flexpie.planner.walk import walked

_SAME_SECONDS = 1e-9


@dataclass(frozen=True)
class Totals:
    """What a plan is predicted to take, over all its segments."""

    compute_seconds: float
    """Of the slowest device of each segment."""
    exchange_seconds: float
    """Of all exchanges, the gathering of the outputs included."""
    messages: int
    """From one end to another, wherever they are relayed."""
    nbytes: int


@dataclass(frozen=True)
class Rival:
    """Another plan."""

    name: str
    """One of `flexpie.core.strategy.STRATEGIES`."""
    plan: Plan
    latency_seconds: float
    """Predicted for one request, simulated."""
    totals: Totals
    needs: tuple[MemoryNeed, ...]
    """Per device."""
    fits: bool
    """Whether the devices have the memory for it."""


@dataclass(frozen=True)
class Comparison:
    """A plan beside others."""

    totals: Totals
    """Of the plan itself."""
    rivals: tuple[Rival, ...]
    """The fastest first."""
    runner_up: Rival | None
    """The fastest that fits and in which some device does something else; None where there is none."""
    reason: str
    """Why the runner-up lost (or how a plan that was not searched is beaten); empty where there is none."""


def compare(
    graph: LayerGraph, cluster: Cluster, plan: Plan, model: CostModel, others: Sequence[Plan] = ()
) -> Comparison:
    """Set a plan (with its predicted costs) beside all baselines.

    Parameters
    ----------
    others: plans to compare with besides; they count as ``auto``.
    """
    names = [AUTO] * len(others) + list(BASELINES)
    plans = [*others, *(baseline_plan(graph, cluster, name, model) for name in BASELINES)]
    rivals = [_rival(graph, cluster, model, name, rival) for name, rival in zip(names, plans, strict=True)]
    rivals.sort(key=lambda rival: rival.latency_seconds)
    totals = totals_of(graph, plan)
    others_that_fit = (rival for rival in rivals if rival.fits)
    runner_up = next(
        (rival for rival in others_that_fit if not same_division(graph, rival.plan.segments, plan.segments)), None
    )
    seconds = simulate(graph, cluster, plan.segments, model).latency
    reason = "" if runner_up is None else _reason(cluster, seconds, totals, runner_up)
    return Comparison(totals, tuple(rivals), runner_up, reason)


def totals_of(graph: LayerGraph, plan: Plan) -> Totals:
    """Add up a plan's predicted costs. Where devices take turns, of the one that answers a lone request."""
    plan = plan_of_lone_request(plan)
    exchanges = walked(graph, len(plan.devices), plan.segments).exchanges
    return Totals(
        compute_seconds=sum(max(cost.compute_seconds) for cost in plan.costs),
        exchange_seconds=sum(cost.exchange_seconds for cost in plan.costs) + plan.gather_seconds,
        messages=sum(int(np.count_nonzero(nbytes)) for nbytes in exchanges),
        nbytes=sum(int(nbytes.sum()) for nbytes in exchanges),
    )


def _rival(graph: LayerGraph, cluster: Cluster, model: CostModel, name: str, plan: Plan) -> Rival:
    needs = memory_needs(graph, plan.segments, len(cluster.devices))
    seconds = simulate(graph, cluster, plan.segments, model).latency
    return Rival(name, plan, seconds, totals_of(graph, plan), needs, exceeding(cluster, needs) is None)


def _reason(cluster: Cluster, seconds: float, totals: Totals, other: Rival) -> str:
    """Where the time of the two differs."""
    longer = other.latency_seconds - seconds
    percent = f"{abs(longer) / seconds:.1%}" if seconds else "0 %"
    if abs(longer) <= _SAME_SECONDS:
        verdict = "just as fast"
    else:
        verdict = f"{milliseconds(abs(longer))} ({percent}) {'slower' if longer > 0 else 'faster'}"
    name = other.name
    if name == SINGLE_DEVICE and other.plan.participants:
        name = f"{cluster.devices[other.plan.participants[0]].name} alone"
    computing = other.totals.compute_seconds - totals.compute_seconds
    exchanging = other.totals.exchange_seconds - totals.exchange_seconds
    messages = (
        f"{other.totals.messages} messages of {_megabytes(other.totals.nbytes)} together "
        f"instead of {totals.messages} of {_megabytes(totals.nbytes)}"
    )
    return (
        f"Runner-up: {name}, predicted to be {verdict}. It {_difference('computes for', computing)}, and its exchanges "
        f"{_difference('take', exchanging)}: {messages}."
    )


def _difference(verb: str, seconds: float) -> str:
    if abs(seconds) <= _SAME_SECONDS:
        return f"{verb} the same time"
    return f"{verb} {milliseconds(abs(seconds))} {'longer' if seconds > 0 else 'less'}"


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.2f} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:.1f} kB"
