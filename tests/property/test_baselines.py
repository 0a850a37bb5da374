"""The strategies that plans are compared with, against trying everything on random small graphs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import Scheme, single
from flexpie.core.strategy import FUSED_LAYER, LAYER_WISE, PIPELINE
from flexpie.planner.baselines import PAPER_SCHEMES, baseline_plan
from flexpie.planner.candidates import proportional_shares
from flexpie.planner.evaluation import evaluate
from tests.conftest import LONG
from tests.property.test_planner import cost_models, graphs
from tests.unit.planner.graphs import cluster_of

_EXAMPLES = settings(max_examples=300 if LONG else 15, suppress_health_check=list(HealthCheck))
_SPEEDS = ((1.0, 1.0), (1.0, 0.5), (1.0, 1.0, 1.0), (0.5, 1.0, 2.0))


@_EXAMPLES
@given(st.data())
def test_layer_wise_is_the_best_scheme_for_each_layer(data: st.DataObject) -> None:
    graph, cluster = data.draw(graphs(longest=4)), cluster_of(*data.draw(st.sampled_from(_SPEEDS)))
    model, shares = data.draw(cost_models(len(cluster.devices))), proportional_shares(cluster)

    def segments(schemes: Sequence[Scheme]) -> list[Segment]:
        return [Segment(layer, layer + 1, scheme, shares) for layer, scheme in enumerate(schemes)]

    ways = itertools.product(PAPER_SCHEMES, repeat=len(graph.layers))
    best = min(evaluate(graph, cluster, segments(way), model).predicted_seconds for way in ways)
    found = baseline_plan(graph, cluster, LAYER_WISE, model)
    assert found.predicted_seconds == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert [segment.stop - segment.first for segment in found.segments] == [1] * len(graph.layers)


@_EXAMPLES
@given(st.data())
def test_fused_layer_is_the_best_fusion_in_one_scheme(data: st.DataObject) -> None:
    graph, cluster = data.draw(graphs(longest=6)), cluster_of(*data.draw(st.sampled_from(_SPEEDS)))
    model, shares = data.draw(cost_models(len(cluster.devices))), proportional_shares(cluster)
    best = min(
        evaluate(graph, cluster, [Segment(*run, scheme, shares) for run in runs], model).predicted_seconds
        for scheme in PAPER_SCHEMES
        for runs in _divisions(len(graph.layers))
    )
    found = baseline_plan(graph, cluster, FUSED_LAYER, model)
    assert found.predicted_seconds == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert len({segment.scheme for segment in found.segments}) == 1


@_EXAMPLES
@given(st.data())
def test_the_slowest_stage_of_a_pipeline_is_as_fast_as_can_be_and_the_sum_too(data: st.DataObject) -> None:
    graph, cluster = data.draw(graphs(longest=5)), cluster_of(*data.draw(st.sampled_from(_SPEEDS)))
    devices = len(cluster.devices)
    model = data.draw(cost_models(devices))
    best = min(
        _balance(evaluate(graph, cluster, segments, model))
        for runs in _divisions(len(graph.layers), most=devices)
        for segments in _on_different_devices(runs, devices)
    )
    found = baseline_plan(graph, cluster, PIPELINE, model)
    slowest, total = _balance(found)
    assert slowest == pytest.approx(best[0])
    assert total <= best[1] * (1 + 1e-9)
    assert len({segment.scheme for segment in found.segments}) == len(found.segments)


def _balance(plan: Plan) -> tuple[float, float]:
    """The slowest stage and the sum of all, the first rounded so that the second decides between equals."""
    stages = [cost.exchange_seconds + max(cost.compute_seconds) for cost in plan.costs]
    return round(max(*stages, plan.gather_seconds), 12), plan.predicted_seconds


def _divisions(layers: int, most: int | None = None) -> Iterator[list[tuple[int, int]]]:
    """Every way to cut layers into runs, of at most so many."""
    for count in range(layers if most is None else min(most, layers)):
        for cuts in itertools.combinations(range(1, layers), count):
            yield list(itertools.pairwise([0, *cuts, layers]))


def _on_different_devices(runs: Sequence[tuple[int, int]], devices: int) -> Iterator[list[Segment]]:
    for order in itertools.permutations(range(devices), len(runs)):
        yield [
            Segment(*run, single(device), tuple(float(index == device) for index in range(devices)))
            for run, device in zip(runs, order, strict=True)
        ]
