from __future__ import annotations

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Objective
from flexpie.core.scheme import OUT_C
from flexpie.planner.evaluation import evaluate, single_segments
from flexpie.planner.forced import forced_segments
from flexpie.planner.memory import memory_needs
from flexpie.planner.occupation import Occupations
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import PlanningResult, make_plan
from tests.unit.planner.graphs import cluster_of, conv_chain

DEEP = conv_chain(8, size=28, channels=64)


def test_latency_is_what_is_aimed_at_unless_something_else_is_asked_for() -> None:
    result = make_plan(DEEP, cluster_of(1.0, 1.0))
    assert result.objective is Objective.LATENCY
    assert result.gap == 0.0


def test_a_plan_for_throughput_answers_more_requests_than_the_fastest_plan_and_the_best_device() -> None:
    cluster = cluster_of(0.2, 0.2, 0.1)
    fastest, most = make_plan(DEEP, cluster), make_plan(DEEP, cluster, objective="throughput")
    assert most.objective is Objective.THROUGHPUT
    assert most.occupation.requests_per_second > 1.1 * fastest.occupation.requests_per_second
    assert most.plan.predicted_seconds >= fastest.plan.predicted_seconds * (1 - 1e-9)
    assert most.gap is not None
    assert 0 <= most.gap < 0.25
    model = PhysicsCostModel(cluster)
    for device in range(3):
        alone = evaluate(DEEP, cluster, single_segments(DEEP, 3, device), model)
        period = Occupations(cluster, model).of_plan(DEEP, alone).period_seconds
        assert period > 1.5 * most.occupation.period_seconds
    assert f"answer {most.occupation.requests_per_second:.3g} of them per second" in most.reason


def test_a_plan_for_throughput_fits_the_memory() -> None:
    graph = conv_chain(4, size=14, channels=64)
    need = memory_needs(graph, single_segments(graph, 1, 0), 1)[0].total
    budgets = (need * 2 // 3, need * 2 // 3)
    result = make_plan(graph, cluster_of(0.1, 0.1, memory=budgets), objective="throughput")
    assert not result.single_device_fits
    assert result.gap is not None
    for had, needed in zip(budgets, memory_needs(graph, result.plan.segments, 2), strict=True):
        assert needed.total <= had


def test_a_plan_for_memory_needs_less_than_the_fastest_plan() -> None:
    cluster = cluster_of(1.0, 1.0, 1.0)
    fastest, least = make_plan(DEEP, cluster), make_plan(DEEP, cluster, objective="memory")

    def largest(result: PlanningResult) -> int:
        return max(need.total for need in memory_needs(DEEP, result.plan.segments, 3))

    assert least.objective is Objective.MEMORY
    assert largest(least) <= largest(fastest)
    forced = evaluate(DEEP, cluster, forced_segments(DEEP, cluster, OUT_C), PhysicsCostModel(cluster))
    assert largest(least) <= max(need.total for need in memory_needs(DEEP, forced.segments, 3))
    assert least.gap is not None
    assert least.reason.startswith("This plan needs at most ")


def test_memory_is_weighed_by_what_each_device_has() -> None:
    graph = conv_chain(4, size=4, channels=64)
    need = memory_needs(graph, single_segments(graph, 1, 0), 1)[0].total
    result = make_plan(graph, cluster_of(1.0, 1.0, memory=(4 * need, need)), objective="memory")
    first, second = memory_needs(graph, result.plan.segments, 2)
    assert first.total > 2 * second.total
    assert max(first.total / (4 * need), second.total / need) < 0.25


def test_one_device_has_one_plan_whatever_is_asked_for() -> None:
    result = make_plan(DEEP, cluster_of(1.0), objective="throughput")
    assert result.objective is Objective.THROUGHPUT
    assert result.gap == 0.0


@pytest.mark.parametrize(("scheme", "objective"), [("auto", "speed"), ("InH", "throughput")])
def test_what_has_no_meaning_is_refused(scheme: str, objective: str) -> None:
    with pytest.raises(FlexPieError, match=f"objective '?{objective}") as caught:
        make_plan(DEEP, cluster_of(1.0, 1.0), scheme=scheme, objective=objective)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
