from __future__ import annotations

import pytest

from flexpie.core.plan import Segment
from flexpie.core.rates import REFERENCE_RATES
from flexpie.core.scheme import IN_H, REPLICATED, single
from flexpie.planner.evaluation import evaluate, plans_alone, single_segments
from flexpie.planner.memory import MemoryNeed, memory_needs
from flexpie.planner.physics import PhysicsCostModel
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain, residual_net

IMAGE_BYTES = 8 * 16 * 16 * 4
ROW_BYTES = 8 * 16 * 4


def test_rows_exchange_one_halo_row_in_each_direction() -> None:
    graph, cluster = conv_chain(2), cluster_of(1.0, 1.0)
    segments = [Segment(0, 1, IN_H, (1.0, 1.0)), Segment(1, 2, IN_H, (1.0, 1.0))]
    plan = evaluate(graph, cluster, segments, PhysicsCostModel(cluster))
    scatter, halos = plan.costs
    assert scatter.exchange_bytes == IMAGE_BYTES + 2 * ROW_BYTES
    assert halos.exchange_bytes == 2 * ROW_BYTES
    handling = 2 * ROW_BYTES * REFERENCE_RATES.end_seconds_per_byte
    messages = REFERENCE_RATES.send_seconds + REFERENCE_RATES.receive_seconds + REFERENCE_RATES.start_seconds
    assert halos.exchange_seconds == pytest.approx(messages + handling + ROW_BYTES / 125e6 + 1e-4)
    assert plan.gather_seconds > 0
    assert plan.devices == ("pi-0", "pi-1")
    assert plan.graph_digest == graph.signature


def test_a_fused_segment_computes_the_halo_twice_and_exchanges_nothing() -> None:
    graph, cluster = conv_chain(2), cluster_of(1.0, 1.0)
    model = PhysicsCostModel(cluster)
    fused = evaluate(graph, cluster, [Segment(0, 2, IN_H, (1.0, 1.0))], model)
    apart = evaluate(graph, cluster, [Segment(i, i + 1, IN_H, (1.0, 1.0)) for i in range(2)], model)
    assert fused.costs[0].exchange_bytes == IMAGE_BYTES + 4 * ROW_BYTES
    assert max(fused.costs[0].compute_seconds) > sum(max(cost.compute_seconds) for cost in apart.costs)


def test_the_time_is_that_of_the_slowest_device_in_each_segment() -> None:
    graph, cluster = conv_chain(1), cluster_of(1.0, 0.5)
    plan = evaluate(graph, cluster, [Segment(0, 1, REPLICATED, (1.0, 1.0))], PhysicsCostModel(cluster))
    (cost,) = plan.costs
    assert cost.compute_seconds[1] == pytest.approx(2 * cost.compute_seconds[0])
    assert plan.predicted_seconds == pytest.approx(
        cost.exchange_seconds + cost.compute_seconds[1] + plan.gather_seconds
    )


def test_a_residual_that_was_received_is_not_sent_again() -> None:
    graph, cluster = residual_net(1), cluster_of(1.0, 1.0)
    segments = [
        Segment(0, 1, single(0), (1.0, 0.0)),
        Segment(1, 2, single(1), (0.0, 1.0)),
        Segment(2, 5, single(1), (0.0, 1.0)),
    ]
    plan = evaluate(graph, cluster, segments, PhysicsCostModel(cluster))
    assert plan.costs[1].exchange_bytes == 32 * 28 * 28 * 4
    assert plan.costs[2].exchange_bytes == 0


def test_weights_count_once_and_activations_at_their_peak() -> None:
    graph = conv_chain(2)
    weight = 8 * 8 * 3 * 3 * 4
    whole = memory_needs(graph, [Segment(0, 2, single(0), (1.0, 0.0))], 2)
    assert whole == (MemoryNeed(2 * weight, 2 * IMAGE_BYTES), MemoryNeed(0, 0))
    rows = memory_needs(graph, [Segment(0, 2, IN_H, (1.0, 1.0))], 2)
    assert rows[0].weights == rows[1].weights == 2 * weight
    assert rows[0].activations == (10 + 9) * ROW_BYTES


def test_a_tensor_that_waits_for_a_later_segment_takes_memory() -> None:
    writer = GraphWriter()
    image = writer.input(1, 8, 16, 16)
    first = writer.conv(image, 8)
    graph = writer.graph(writer.add(writer.conv(writer.conv(first, 8), 8), first))
    segments = [Segment(index, index + 1, single(0), (1.0,)) for index in range(4)]
    assert memory_needs(graph, segments, 1)[0].activations == 3 * IMAGE_BYTES


def test_a_weight_that_two_segments_share_counts_once() -> None:
    writer = GraphWriter()
    image = writer.conv(writer.input(1, 8, 16, 16), 8)
    writer.layers.append(writer.layers[0].__class__("again", (_again(writer, image),)))
    graph = writer.graph("again")
    segments = [Segment(index, index + 1, single(0), (1.0,)) for index in range(2)]
    assert memory_needs(graph, segments, 1)[0].weights == 8 * 8 * 3 * 3 * 4


def _again(writer: GraphWriter, image: str):  # type: ignore[no-untyped-def]
    import dataclasses

    operator = writer.layers[0].operators[0]
    writer.tensors["again"] = dataclasses.replace(writer.tensors[image], name="again")
    return dataclasses.replace(operator, name="again", inputs=(image, operator.inputs[1]), outputs=("again",))


def test_plans_on_one_device_are_predicted_as_any_other() -> None:
    graph, cluster = residual_net(blocks=2, size=28, channels=16), cluster_of(0.2, 0.2, 0.1)
    model = PhysicsCostModel(cluster)
    alone = [evaluate(graph, cluster, single_segments(graph, 3, device), model) for device in range(3)]
    assert plans_alone(graph, cluster, model) == alone
