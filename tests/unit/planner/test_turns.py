"""Devices that take turns answer as many requests as they could alone, together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie.core.cluster import MASTER_NAME, Link
from flexpie.core.plan import Segment
from flexpie.core.scheme import DATA_PARALLEL
from flexpie.core.strategy import DATA_PARALLEL as NAME
from flexpie.core.strategy import PIPELINE
from flexpie.core.turns import turns
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.comparison import totals_of
from flexpie.planner.evaluation import evaluate, plans_alone
from flexpie.planner.memory import memory_needs
from flexpie.planner.occupation import Occupations
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from flexpie.planner.simulation import simulate
from flexpie.planner.turns import data_parallel_plan
from tests.unit.planner.graphs import cluster_of, conv_chain

DEEP = conv_chain(8, size=28, channels=64)


def test_equal_devices_get_equal_parts_and_answer_together_what_each_could_alone() -> None:
    cluster = cluster_of(*[0.2] * 4)
    model = PhysicsCostModel(cluster)
    plan, alone = data_parallel_plan(DEEP, cluster, model), plans_alone(DEEP, cluster, model)[0]
    assert plan.segments[0].shares == (1.0,) * 4
    assert plan.predicted_seconds == alone.predicted_seconds
    one, four = (Occupations(cluster, model).of_plan(DEEP, item) for item in (alone, plan))
    assert four.processor[:4] == pytest.approx([one.processor[0] / 4] * 4)
    assert four.processor[4] == pytest.approx(one.processor[4]), "the master handles every request"
    assert four.requests_per_second == pytest.approx(4 * one.requests_per_second)


def test_faster_devices_answer_more_and_a_lone_request_goes_to_the_fastest() -> None:
    cluster = cluster_of(0.1, 0.2)
    model = PhysicsCostModel(cluster)
    plan, alone = data_parallel_plan(DEEP, cluster, model), plans_alone(DEEP, cluster, model)
    assert plan.segments[0].shares[0] == pytest.approx(0.5, rel=0.05)
    assert plan.predicted_seconds == alone[1].predicted_seconds
    assert simulate(DEEP, cluster, plan.segments, model).latency == pytest.approx(
        simulate(DEEP, cluster, alone[1].segments, model).latency
    )


@pytest.mark.parametrize("speeds", [(0.2, 0.2, 0.2), (0.2, 0.1, 0.05), (0.05, 0.1, 0.2)])
def test_what_is_promised_is_what_a_simulation_of_many_requests_shows(speeds: tuple[float, ...]) -> None:
    cluster = cluster_of(*speeds)
    model = PhysicsCostModel(cluster)
    plan = data_parallel_plan(DEEP, cluster, model)
    simulation = simulate(DEEP, cluster, plan.segments, model, requests=400, in_flight=12)
    promised = Occupations(cluster, model).of_plan(DEEP, plan).requests_per_second
    assert simulation.throughput == pytest.approx(promised, rel=0.06)
    parts = turns(plan.segments)
    for device, part in parts.items():
        computing = simulation.per_device(device).computing
        assert computing == pytest.approx(part * plan.costs[0].compute_seconds[device], rel=0.15)


def test_a_device_without_the_memory_takes_no_turn() -> None:
    need = memory_needs(DEEP, plans_alone(DEEP, cluster_of(1.0), PhysicsCostModel(cluster_of(1.0)))[0].segments, 1)
    cluster = cluster_of(0.2, 0.2, 0.2, memory=(None, need[0].total - 1, need[0].total))
    plan = data_parallel_plan(DEEP, cluster, PhysicsCostModel(cluster))
    assert plan.participants == (0, 2)
    small = cluster_of(0.2, 0.2, memory=(1, 1))
    assert data_parallel_plan(DEEP, small, PhysicsCostModel(small)).participants == (0, 1), "for others to refuse"


def test_parts_regard_the_port_of_the_master_that_all_share() -> None:
    """Requests to devices behind slow links keep it busy for longer."""
    cluster = cluster_of(*[1.0] * 4, bandwidth=30e6)
    fast = Link(125e6, 1e-4)
    cluster = replace(cluster, links={("pi-0", MASTER_NAME): fast, (MASTER_NAME, "pi-0"): fast})
    graph, model = conv_chain(2, size=56, channels=16), PhysicsCostModel(cluster)
    occupations = Occupations(cluster, model)

    def rate(*shares: float) -> float:
        segment = Segment(0, len(graph.layers), DATA_PARALLEL, shares)
        return occupations.of_plan(graph, evaluate(graph, cluster, (segment,), model)).requests_per_second

    found = data_parallel_plan(graph, cluster, model).segments[0].shares
    assert rate(*found) > 1.2 * rate(1.0, 1.0, 1.0, 1.0)
    for part in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
        assert rate(*found) >= rate(1.0, part, part, part) * (1 - 1e-6)


def test_what_is_told_of_turns_is_what_one_request_costs() -> None:
    cluster = cluster_of(0.1, 0.2)
    model = PhysicsCostModel(cluster)
    plan, alone = data_parallel_plan(DEEP, cluster, model), plans_alone(DEEP, cluster, model)[1]
    assert totals_of(DEEP, plan) == totals_of(DEEP, alone)


def test_throughput_is_best_in_turns_where_the_model_fits_every_device() -> None:
    cluster = cluster_of(*[0.2] * 4, bandwidth=1e9)
    result = make_plan(DEEP, cluster, objective="throughput")
    assert result.plan.segments[0].scheme == DATA_PARALLEL
    assert result.reason.endswith("answered by one of them, in turn.")
    model = PhysicsCostModel(cluster)
    pipeline = Occupations(cluster, model).of_plan(DEEP, baseline_plan(DEEP, cluster, PIPELINE, model))
    assert result.occupation.requests_per_second > pipeline.requests_per_second


def test_turns_can_be_asked_for() -> None:
    assert turns(make_plan(DEEP, cluster_of(1.0, 1.0), scheme=NAME).plan.segments) == {0: 0.5, 1: 0.5}
