from __future__ import annotations

import numpy as np
import pytest

from flexpie.core.cluster import Topology
from flexpie.core.plan import Segment
from flexpie.core.rates import REFERENCE_RATES
from flexpie.core.scheme import single
from flexpie.planner.evaluation import evaluate, single_segments
from flexpie.planner.occupation import Occupations
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain


def test_a_message_keeps_both_processors_and_both_ports_busy() -> None:
    cluster = cluster_of(0.5, 1.0, bandwidth=1e6)
    nbytes = np.zeros((3, 3))
    nbytes[0, 1] = 1000
    processor, outgoing, incoming = Occupations(cluster, PhysicsCostModel(cluster)).of_exchange(nbytes)
    per_bytes = 1000 * REFERENCE_RATES.end_seconds_per_byte
    received = REFERENCE_RATES.receive_seconds + per_bytes + REFERENCE_RATES.start_seconds
    assert processor == pytest.approx([(REFERENCE_RATES.send_seconds + per_bytes) / 0.5, received, 0.0])
    assert outgoing == pytest.approx([1e-3, 0.0, 0.0])
    assert incoming == pytest.approx([0.0, 1e-3, 0.0])


def test_a_relay_is_kept_busy_in_both_directions() -> None:
    cluster = cluster_of(1.0, 1.0, 1.0, bandwidth=1e6, topology=Topology.STAR)
    nbytes = np.zeros((4, 4))
    nbytes[1, 2] = 1000
    _, outgoing, incoming = Occupations(cluster, PhysicsCostModel(cluster)).of_exchange(nbytes)
    assert outgoing == pytest.approx([1e-3, 1e-3, 0.0, 0.0])
    assert incoming == pytest.approx([1e-3, 0.0, 1e-3, 0.0])


def test_one_device_is_busy_with_all_the_computing_and_the_messages_of_the_master() -> None:
    graph, cluster = conv_chain(3), cluster_of(0.5, 1.0)
    model = PhysicsCostModel(cluster)
    plan = evaluate(graph, cluster, single_segments(graph, 2, 1), model)
    busy = Occupations(cluster, model).of_plan(graph, plan)
    assert busy.processor[0] == busy.outgoing[0] == busy.incoming[0] == 0
    assert plan.costs[0].compute_seconds[1] < busy.processor[1] < plan.predicted_seconds
    assert busy.outgoing[2] == pytest.approx(graph.tensors[graph.inputs[0]].nbytes / 125e6)
    assert busy.incoming[2] == pytest.approx(busy.outgoing[1])
    assert busy.period_seconds == busy.processor[1]
    assert busy.requests_per_second == pytest.approx(1 / busy.processor[1])
    assert busy.busiest(plan.devices) == "the processor of pi-1"


def test_a_pipeline_answers_more_often_than_one_device_though_each_answer_takes_longer() -> None:
    graph, cluster = conv_chain(6, size=56, channels=64), cluster_of(1.0, 1.0, bandwidth=1.25e9)
    model = PhysicsCostModel(cluster)
    halves = (Segment(0, 3, single(0), (1.0, 0.0)), Segment(3, 6, single(1), (0.0, 1.0)))
    occupations = Occupations(cluster, model)
    pipeline, alone = (evaluate(graph, cluster, s, model) for s in (halves, single_segments(graph, 2, 0)))
    assert pipeline.predicted_seconds > alone.predicted_seconds
    faster = occupations.of_plan(graph, alone).period_seconds / occupations.of_plan(graph, pipeline).period_seconds
    assert 1.5 < faster < 2


def test_a_slow_network_is_the_bottleneck() -> None:
    writer = GraphWriter()
    graph = writer.graph(writer.conv(writer.input(1, 3, 64, 64), 1, 1))
    result = make_plan(graph, cluster_of(1.0, 1.0, bandwidth=1e5))
    assert result.occupation.busiest(result.plan.devices) == "the port (sending) of the master"
    assert result.occupation.requests_per_second == pytest.approx(1e5 / graph.tensors[graph.inputs[0]].nbytes)
