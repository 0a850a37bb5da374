"""A plan beside every baseline: the numbers are those of the plans, and the sentence says where the time differs."""

from __future__ import annotations

import pytest

from flexpie.core.plan import Segment
from flexpie.core.scheme import IN_H, OUT_C
from flexpie.core.strategy import AUTO, BASELINES
from flexpie.planner.comparison import compare, totals_of
from flexpie.planner.evaluation import evaluate
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain, residual_net

GRAPH = residual_net(blocks=2, size=28, channels=16)
CLUSTER = cluster_of(0.2, 0.2, 0.1)
MODEL = PhysicsCostModel(CLUSTER)


def test_every_baseline_is_there_the_fastest_first() -> None:
    plan = make_plan(GRAPH, CLUSTER).plan
    comparison = compare(GRAPH, CLUSTER, plan, MODEL)
    assert {rival.name for rival in comparison.rivals} == set(BASELINES)
    seconds = [rival.plan.predicted_seconds for rival in comparison.rivals]
    assert seconds == sorted(seconds)
    for rival in comparison.rivals:
        parts = rival.totals.compute_seconds + rival.totals.exchange_seconds
        assert parts == pytest.approx(rival.plan.predicted_seconds)
    assert comparison.runner_up is not None
    assert comparison.runner_up.plan.segments != plan.segments
    assert comparison.reason.startswith("Runner-up: ")


def test_messages_and_bytes_are_counted() -> None:
    chain = conv_chain(2, size=16, channels=8)
    cluster = cluster_of(1.0, 1.0)
    segments = [Segment(0, 1, IN_H, (1.0, 1.0)), Segment(1, 2, IN_H, (1.0, 1.0))]
    totals = totals_of(chain, evaluate(chain, cluster, segments, PhysicsCostModel(cluster)))
    row = 8 * 16 * 4  # bytes of one row of all channels
    scatter, halo, gather = (9 + 9) * row, 2 * row, 16 * row
    assert totals.nbytes == scatter + halo + gather
    assert totals.messages == 2 + 2 + 2


def test_what_does_not_fit_is_no_runner_up_and_says_what_it_needs() -> None:
    heavy = conv_chain(4, size=7, channels=128)
    whole = make_plan(heavy, cluster_of(1.0)).plan
    free = compare(heavy, cluster_of(1.0), whole, PhysicsCostModel(cluster_of(1.0)))
    need = free.rivals[0].needs[0].total
    cluster = cluster_of(1.0, 1.0, memory=(need * 7 // 10, need * 7 // 10))
    comparison = compare(heavy, cluster, make_plan(heavy, cluster).plan, PhysicsCostModel(cluster))
    unfit = {rival.name: rival for rival in comparison.rivals if not rival.fits}
    assert "Single" in unfit
    assert max(use.total for use in unfit["Single"].needs) == need
    assert comparison.runner_up is None or comparison.runner_up.fits


def test_a_plan_that_was_given_is_set_beside_the_one_that_is_searched() -> None:
    poor = evaluate(
        GRAPH, CLUSTER, [Segment(i, i + 1, OUT_C, (1.0, 1.0, 1.0)) for i in range(len(GRAPH.layers))], MODEL
    )
    comparison = compare(GRAPH, CLUSTER, poor, MODEL, [make_plan(GRAPH, CLUSTER).plan])
    assert comparison.rivals[0].name == AUTO
    assert comparison.runner_up is comparison.rivals[0]
    assert " faster. It computes for " in comparison.reason


def test_the_same_plan_under_another_name_is_no_runner_up() -> None:
    writer = GraphWriter()
    row = writer.input(1, 8, 1, 1)  # rows of one pixel: by rows, the fastest device has everything
    for _ in range(3):
        row = writer.relu(row)
    graph, cluster = writer.graph(row), cluster_of(1.0, 0.1)
    plan = make_plan(graph, cluster).plan
    comparison = compare(graph, cluster, plan, PhysicsCostModel(cluster))
    names = {rival.name for rival in comparison.rivals if rival.plan.predicted_seconds == plan.predicted_seconds}
    assert {"Single", "InH", "fused-layer"} <= names
    assert comparison.runner_up is not None
    assert comparison.runner_up.name not in names


def test_a_model_without_layers_has_no_runner_up() -> None:
    writer = GraphWriter()
    graph = writer.graph(writer.input(1, 3, 4, 4))
    comparison = compare(graph, CLUSTER, make_plan(graph, CLUSTER).plan, MODEL)
    assert comparison.runner_up is None
    assert comparison.reason == ""
