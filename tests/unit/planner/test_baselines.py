"""Every strategy on graphs where it is known what it does."""

from __future__ import annotations

import pytest

from flexpie.core.scheme import single
from flexpie.core.strategy import BASELINES, FUSED_LAYER, LAYER_WISE, PIPELINE, STRATEGIES
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain, residual_net


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_plans_all_layers_and_none_is_faster_than_the_search(name: str) -> None:
    graph, cluster = residual_net(blocks=2, size=28, channels=16), cluster_of(0.2, 0.2, 0.1)
    result = make_plan(graph, cluster, scheme=name)
    stops = [0, *(segment.stop for segment in result.plan.segments)]
    assert [segment.first for segment in result.plan.segments] == stops[:-1]
    assert stops[-1] == len(graph.layers)
    assert make_plan(graph, cluster).plan.predicted_seconds <= result.plan.predicted_seconds + 1e-6
    assert result.reason == f"The strategy {name} was asked for."


@pytest.mark.parametrize("name", STRATEGIES[1:])
@pytest.mark.parametrize("speeds", [(1.0,), (1.0, 0.5)])
def test_a_model_without_layers_has_an_empty_plan(name: str, speeds: tuple[float, ...]) -> None:
    writer = GraphWriter()
    graph, cluster = writer.graph(writer.input(1, 3, 4, 4)), cluster_of(*speeds)
    assert baseline_plan(graph, cluster, name, PhysicsCostModel(cluster)).segments == ()


def test_equal_stages_go_to_equal_devices() -> None:
    graph, cluster = conv_chain(8, size=32, channels=32), cluster_of(0.1, 0.1, 0.1, 0.1)
    plan = baseline_plan(graph, cluster, PIPELINE, PhysicsCostModel(cluster))
    assert [segment.stop - segment.first for segment in plan.segments] == [2, 2, 2, 2]
    assert [segment.scheme for segment in plan.segments] == [single(device) for device in range(4)]


def test_a_faster_device_computes_more_layers() -> None:
    graph, cluster = conv_chain(9, size=32, channels=32), cluster_of(0.1, 0.2)
    plan = baseline_plan(graph, cluster, PIPELINE, PhysicsCostModel(cluster))
    layers = {segment.scheme.device: segment.stop - segment.first for segment in plan.segments}
    assert layers[1] >= 2 * layers[0] > 0


def test_a_device_that_would_only_slow_a_pipeline_gets_nothing() -> None:
    graph, cluster = conv_chain(4, size=32, channels=32), cluster_of(0.2, 0.2, 1e-4)
    plan = baseline_plan(graph, cluster, PIPELINE, PhysicsCostModel(cluster))
    assert plan.participants == (0, 1)


def test_a_pipeline_of_many_unequal_devices_keeps_to_the_fastest_in_their_order() -> None:
    speeds = [0.1 + 0.01 * index for index in range(12)]
    graph, cluster = conv_chain(24, size=32, channels=32), cluster_of(*speeds)
    plan = baseline_plan(graph, cluster, PIPELINE, PhysicsCostModel(cluster))
    used = [segment.scheme.device or 0 for segment in plan.segments]
    assert used == sorted(used)
    assert set(used) <= set(range(4, 12))


def test_fusion_pays_where_messages_are_dear() -> None:
    graph, cluster = conv_chain(6, size=32, channels=16), cluster_of(0.05, 0.05, latency=2e-3)
    model = PhysicsCostModel(cluster)
    fused, layer_wise = (baseline_plan(graph, cluster, name, model) for name in (FUSED_LAYER, LAYER_WISE))
    assert len(fused.segments) < len(layer_wise.segments)
    assert fused.predicted_seconds < layer_wise.predicted_seconds
