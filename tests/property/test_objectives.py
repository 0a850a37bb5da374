"""The planner's other objectives against trying every plan, on random small graphs and random costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.planner.candidates import Candidate
from flexpie.planner.evaluation import evaluate
from flexpie.planner.memory import memory_needs
from flexpie.planner.memory_saving import capacities, largest_part, least_memory
from flexpie.planner.occupation import Occupations
from flexpie.planner.table import cost_table
from flexpie.planner.throughput import dearest_prices, most_throughput
from tests.conftest import LONG
from tests.property.test_planner import SLOW_DATA, candidate_sets, cost_models, graphs
from tests.unit.planner.graphs import cluster_of

MOST_PLANS = 500


def every_plan(graph: LayerGraph, candidates: Sequence[Candidate]) -> Iterator[list[Segment]]:
    """Every sequence of segments with every candidate."""
    layers = len(graph.layers)
    for count in range(layers):
        for inner in itertools.combinations(range(1, layers), count):
            stops = (*inner, layers)
            for chosen in itertools.product(candidates, repeat=len(stops)):
                yield [
                    Segment(first, stop, scheme, shares)
                    for first, stop, (scheme, shares) in zip((0, *inner), stops, chosen, strict=True)
                ]


@settings(max_examples=300 if LONG else 15, suppress_health_check=SLOW_DATA, deadline=None)
@given(st.data())
def test_the_shortest_period_is_within_the_gap_of_what_trying_everything_finds(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=4))
    devices = data.draw(st.integers(2, 3))
    cluster, model = cluster_of(*[1.0] * devices), data.draw(cost_models(devices))
    table = cost_table(graph, devices, data.draw(candidate_sets(devices)), model)
    kinds = len(table.candidates)
    assume(kinds * (1 + kinds) ** (len(graph.layers) - 1) <= MOST_PLANS)
    occupations = Occupations(cluster, model)
    plans = [evaluate(graph, cluster, segments, model) for segments in every_plan(graph, table.candidates)]
    best = min(occupations.of_plan(graph, plan).period_seconds for plan in plans)
    found = most_throughput(graph, cluster, model, table, [max(plans, key=lambda plan: plan.predicted_seconds)])
    period = found.occupation.period_seconds
    assert period == occupations.of_plan(graph, found.plan).period_seconds
    assert period >= best * (1 - 1e-9)
    if table.complete:
        assert found.bound_seconds <= best * (1 + 1e-9)
        assert period * (1 - found.gap) <= best * (1 + 1e-6)
    assert period <= 1.5 * best


@settings(max_examples=300 if LONG else 15, suppress_health_check=SLOW_DATA, deadline=None)
@given(st.data())
def test_the_least_memory_is_within_the_gap_of_what_trying_everything_finds(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=4))
    devices = data.draw(st.integers(2, 3))
    limits = st.lists(st.sampled_from((None, 4000, 1000, 10_000)), min_size=devices, max_size=devices)
    budgets = data.draw(st.one_of(st.just([None] * devices), limits))
    cluster, model = cluster_of(*[1.0] * devices, memory=budgets), data.draw(cost_models(devices))
    table = cost_table(graph, devices, data.draw(candidate_sets(devices)), model)
    kinds = len(table.candidates)
    assume(kinds * (1 + kinds) ** (len(graph.layers) - 1) <= MOST_PLANS)
    room = capacities(cluster)

    def largest(segments: Sequence[Segment]) -> float:
        return largest_part(memory_needs(graph, segments, devices), room)

    plans = list(every_plan(graph, table.candidates))
    best = min(map(largest, plans))
    start = evaluate(graph, cluster, max(plans, key=largest), model)
    found = least_memory(graph, cluster, model, table, [start])
    assert largest(found.plan.segments) <= found.largest
    assert found.largest >= best * (1 - 1e-9)
    if table.complete:
        assert found.bound <= best * (1 + 1e-9)
        assert found.largest * (1 - found.gap) <= best * (1 + 1e-6)
    assert found.largest <= 1.5 * best


def test_prices_make_the_cheapest_plan_as_dear_as_can_be() -> None:
    prices, cost = dearest_prices(np.array([[4.0, 0.0, 1.0], [0.0, 2.0, 1.0]]))
    assert prices == pytest.approx([1 / 3, 2 / 3, 0.0], abs=1e-9)
    assert cost == pytest.approx(4 / 3)
