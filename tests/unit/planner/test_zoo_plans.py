"""Plans of the standard models are plausible: close to what a prototype measured on four devices of 0.2 of a core."""

from __future__ import annotations

import functools

import pytest

from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import IN_H, SPLITTING, single
from flexpie.planner.forced import forced_plan
from flexpie.planner.memory import memory_needs
from flexpie.planner.planning import make_plan
from flexpie_models import build
from tests.splitting import imported
from tests.unit.planner.graphs import cluster_of

FOUR = cluster_of(0.2, 0.2, 0.2, 0.2)


@functools.lru_cache
def graph_of(name: str) -> LayerGraph:
    """The layer graph of a standard model."""
    return imported(build(name)).graph


@pytest.mark.parametrize(
    ("name", "single", "speedup"),
    [
        ("mobilenet_v1", 0.027, (1.05, 1.7)),
        ("resnet18", 0.087, (1.3, 1.9)),
        pytest.param("resnet101", 0.34, (1.5, 2.4), marks=pytest.mark.slow),
        pytest.param("bert_base", 0.658, (1.7, 2.6), marks=pytest.mark.slow),
    ],
)
def test_predictions_are_near_what_was_measured(name: str, single: float, speedup: tuple[float, float]) -> None:
    result = make_plan(graph_of(name), FOUR)
    (alone,) = result.single_device.costs
    assert max(alone.compute_seconds) == pytest.approx(single, rel=0.15)
    ratio = result.single_device.predicted_seconds / result.plan.predicted_seconds
    assert speedup[0] <= ratio <= speedup[1]


def test_resnet18_exchanges_about_four_times_between_the_devices() -> None:
    result = make_plan(graph_of("resnet18"), FOUR)
    assert result.exact
    assert result.plan.participants == (0, 1, 2, 3)
    inner = [cost for cost in result.plan.costs[1:] if cost.exchange_bytes > 0]
    assert 2 <= len(inner) <= 6
    assert len(result.plan.segments) < len(graph_of("resnet18").layers) / 2


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet18"])
def test_the_plan_beats_every_scheme_that_is_forced(name: str) -> None:
    graph = graph_of(name)
    best = make_plan(graph, FOUR).plan.predicted_seconds
    for scheme in SPLITTING:
        assert best < forced_plan(graph, FOUR, scheme).predicted_seconds


def test_rows_divide_early_layers_better_than_late_ones() -> None:
    graph = graph_of("resnet18")
    rows = forced_plan(graph, FOUR, IN_H)
    whole = forced_plan(graph, FOUR, single(0))
    convolutions = [at for at, layer in enumerate(graph.layers) if layer.operators[0].op_type == "Conv"]
    early, late = (
        max(whole.costs[at].compute_seconds) / max(rows.costs[at].compute_seconds)
        for at in (convolutions[1], convolutions[-1])
    )
    assert early > 3.6
    assert late < 3.2  # seven rows on four devices, and all of the weights on each


def test_resnet18_fits_devices_that_hold_a_third_of_its_weights() -> None:
    graph = graph_of("resnet18")
    budget = 20_000_000
    result = make_plan(graph, cluster_of(0.2, 0.2, 0.2, 0.2, memory=(budget,) * 4))
    assert all(need.total <= budget for need in memory_needs(graph, result.plan.segments, 4))
    assert result.plan.predicted_seconds < result.single_device.predicted_seconds
