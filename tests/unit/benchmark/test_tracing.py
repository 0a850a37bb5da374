"""How long segments took, as traces tell."""

from __future__ import annotations

import pytest

from flexpie.benchmark.tracing import durations, segment_seconds, simulated_segment_seconds, typical
from flexpie.client import RequestTrace
from flexpie.core.plan import Segment
from flexpie.core.scheme import IN_H
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.simulation import simulate
from tests.unit.benchmark.examples import TRACE
from tests.unit.planner.graphs import cluster_of, conv_chain


def test_a_segment_lasts_until_the_last_device_begins_the_next_one() -> None:
    found = segment_seconds(RequestTrace(1, TRACE.spans))
    assert found == pytest.approx((1.026 - 1.004, 1.045 - 1.026))
    assert durations([]) == ()
    assert durations([(0, 1.0, 3.0), (0, 2.0, 2.5)]) == (1.0,)


def test_segments_of_a_simulation_add_up_to_the_time_of_computing() -> None:
    graph, cluster = conv_chain(3), cluster_of(1.0, 0.5)
    segments = [Segment(at, at + 1, IN_H, (1.0, 1.0)) for at in range(len(graph.layers))]
    simulation = simulate(graph, cluster, segments, PhysicsCostModel(cluster))
    found = simulated_segment_seconds(simulation)
    assert len(found) == len(segments)
    assert min(found) > 0
    assert sum(found) < simulation.latency


def test_the_typical_request_is_the_median_by_segment() -> None:
    assert typical([(1.0, 5.0), (2.0, 1.0), (9.0, 2.0)]) == (2.0, 2.0)
