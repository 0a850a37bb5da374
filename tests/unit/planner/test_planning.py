from __future__ import annotations

import itertools

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Segment
from flexpie.core.scheme import IN_H, IN_W, OUT_C, REPLICATED, single
from flexpie.core.strategy import STRATEGIES
from flexpie.planner.estimator.cost_model import default_cost_model
from flexpie.planner.evaluation import evaluate, merged
from flexpie.planner.forced import forced_plan, forced_segments
from flexpie.planner.memory import memory_needs
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from flexpie.planner.simulation import simulate
from tests.unit.planner.graphs import GraphWriter, RandomCostModel, cluster_of, conv_chain, residual_net

BIG = residual_net(blocks=3, size=56, channels=64)


def test_four_equal_devices_share_a_big_model() -> None:
    cluster = cluster_of(0.2, 0.2, 0.2, 0.2)
    result = make_plan(BIG, cluster)
    assert result.exact
    assert result.plan.participants == (0, 1, 2, 3)
    assert result.plan.predicted_seconds < 0.6 * result.single_device.predicted_seconds
    assert result.plan == evaluate(BIG, cluster, result.plan.segments, PhysicsCostModel(cluster))
    assert result.reason.startswith("Four devices are predicted to be ")
    assert "x faster than the best single device (pi-0: " in result.reason


def test_one_device_is_simply_better_for_a_small_model() -> None:
    result = make_plan(conv_chain(2, size=8), cluster_of(0.2, 1.0))
    assert result.plan == result.single_device
    assert result.plan.segments == (Segment(0, 2, single(1), (0.0, 1.0)),)
    assert result.reason.startswith("One device is simply better: pi-1 alone is predicted to take ")


def test_a_slow_device_is_left_out() -> None:
    result = make_plan(BIG, cluster_of(1.0, 1.0, 0.001))
    assert result.plan.participants == (0, 1)


def test_a_faster_device_gets_more_rows() -> None:
    cluster = cluster_of(0.1, 0.2)
    result = make_plan(BIG, cluster)
    split = [segment for segment in result.plan.segments if min(segment.shares) > 0]
    assert split
    assert any(segment.shares == (0.5, 1.0) for segment in split)


def test_one_device_needs_no_search() -> None:
    result = make_plan(BIG, cluster_of(0.5))
    assert result.exact
    assert result.reason == "There is only one device, pi-0."
    assert result.plan.participants == (0,)


def test_a_model_without_layers_has_an_empty_plan() -> None:
    writer = GraphWriter()
    graph = writer.graph(writer.input(1, 3, 4, 4))
    for cluster in (cluster_of(1.0), cluster_of(1.0, 1.0)):
        result = make_plan(graph, cluster)
        assert result.plan.segments == ()
        assert result.plan.predicted_seconds == 0


@pytest.mark.parametrize("scheme", ["InH", "InW", "OutC", "Grid2D", "Replicated"])
def test_a_forced_scheme_makes_every_layer_a_segment(scheme: str) -> None:
    cluster = cluster_of(1.0, 0.5)
    result = make_plan(BIG, cluster, scheme=scheme)
    assert [(segment.first, segment.stop) for segment in result.plan.segments] == [
        (layer, layer + 1) for layer in range(len(BIG.layers))
    ]
    assert {str(segment.scheme) for segment in result.plan.segments} == {scheme}
    assert {segment.shares for segment in result.plan.segments} == {(1.0, 0.5)}
    assert len(result.plan.costs) == len(BIG.layers)
    assert not result.exact


def test_single_forced_takes_the_best_device() -> None:
    result = make_plan(BIG, cluster_of(1.0, 0.5, 2.0), scheme="Single")
    assert result.plan.segments[0].scheme == single(2)


def test_an_unknown_scheme_is_refused_with_the_choices() -> None:
    with pytest.raises(FlexPieError, match="'Rows'") as caught:
        make_plan(BIG, cluster_of(1.0), scheme="Rows")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert all(choice in caught.value.remedy for choice in STRATEGIES)


def test_fused_forced_segments_cover_all_layers() -> None:
    segments = forced_segments(BIG, cluster_of(1.0, 1.0), OUT_C, fuse=3)
    assert segments[0].first == 0
    assert segments[-1].stop == len(BIG.layers)
    assert all(a.stop == b.first for a, b in itertools.pairwise(segments))
    assert max(segment.stop - segment.first for segment in segments) == 3


def test_neighbours_on_one_device_are_merged_and_others_are_not() -> None:
    one, two, all_ = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)
    segments = [
        Segment(0, 1, REPLICATED, all_), Segment(1, 2, REPLICATED, all_), Segment(2, 3, IN_H, all_),
        Segment(3, 4, IN_H, all_), Segment(4, 5, single(0), one), Segment(5, 6, single(0), one),
        Segment(6, 7, single(1), two),
    ]  # fmt: skip
    spans = [(segment.first, segment.stop) for segment in merged(segments)]
    assert spans == [(0, 2), (2, 3), (3, 4), (4, 6), (6, 7)]


# ---------------------------------------------------------------------------------------------- memory


def weights_heavy() -> tuple[int, int]:
    """Weights and activations of `HEAVY` on one device."""
    need = memory_needs(HEAVY, [Segment(0, len(HEAVY.layers), single(0), (1.0,))], 1)[0]
    return need.weights, need.activations


HEAVY = conv_chain(4, size=7, channels=128)


def test_a_model_that_fits_no_device_alone_is_divided() -> None:
    weights, activations = weights_heavy()
    budget = weights * 6 // 10 + activations
    cluster = cluster_of(1.0, 1.0, memory=(budget, budget))
    free = make_plan(HEAVY, cluster_of(1.0, 1.0))
    result = make_plan(HEAVY, cluster)
    assert all(need.total <= budget for need in memory_needs(HEAVY, result.plan.segments, 2))
    assert result.plan.predicted_seconds >= free.plan.predicted_seconds
    assert result.exact
    assert result.reason.endswith("The fastest plan does not fit the devices' memory; this one does.")


def test_a_device_without_memory_is_left_out() -> None:
    result = make_plan(BIG, cluster_of(1.0, 1.0, 1.0, memory=(1000, None, None)))
    assert 0 not in result.plan.participants
    assert result.plan.participants == (1, 2)


def test_a_model_that_fits_nowhere_is_refused_with_numbers() -> None:
    with pytest.raises(FlexPieError, match=r"pi-0 needs [\d.]+ MB .* and has [\d.]+ MB") as caught:
        make_plan(HEAVY, cluster_of(1.0, 1.0, memory=(10_000, 10_000)))
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY
    assert "add devices" in caught.value.remedy
    with pytest.raises(FlexPieError) as caught:
        make_plan(HEAVY, cluster_of(1.0, memory=(10_000,)))
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY


def test_a_forced_scheme_that_does_not_fit_is_refused() -> None:
    weights, _ = weights_heavy()
    cluster = cluster_of(1.0, 1.0, memory=(weights * 7 // 10, None))
    with pytest.raises(FlexPieError) as caught:
        make_plan(HEAVY, cluster, scheme="InH")  # rows need all weights everywhere
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY
    assert make_plan(HEAVY, cluster, scheme="OutC").plan.predicted_seconds > 0


def test_a_random_cost_model_is_obeyed() -> None:
    model = RandomCostModel(3, 7)
    cluster = cluster_of(1.0, 1.0, 1.0)
    result = make_plan(conv_chain(3), cluster, cost_model=model)
    assert result.plan.predicted_seconds <= min(
        forced_plan(conv_chain(3), cluster, scheme, cost_model=model).predicted_seconds
        for scheme in (IN_H, IN_W, OUT_C)
    )


def test_one_device_is_taken_where_the_division_is_simulated_slower() -> None:
    graph, cluster = conv_chain(3), cluster_of(1.0, 1.0)
    result = make_plan(graph, cluster)
    assert result.latency_seconds <= result.single_device_seconds
    assert result.latency_seconds == simulate(graph, cluster, result.plan.segments, default_cost_model(cluster)).latency
    alone = make_plan(graph, cluster, scheme="Single")
    assert alone.latency_seconds == alone.single_device_seconds == result.single_device_seconds
