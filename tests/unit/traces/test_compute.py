"""Layers measured inside segments: who is credited with which node, and what a sample says."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from flexpie.core.plan import Plan, Segment
from flexpie.core.rates import REFERENCE_RATES
from flexpie.core.scheme import IN_H
from flexpie.traces.compute import MeasuredDevice, draw_plan, expected_seconds, measure_plan
from flexpie.traces.works import configuration_of, work_from_text
from tests.unit.planner.graphs import GraphWriter
from tests.unit.traces.residual import residual_model

DEVICE = MeasuredDevice("d0", REFERENCE_RATES)


def test_every_layer_and_border_of_a_segment_gets_a_sample() -> None:
    model = residual_model()
    layers = len(model.graph.layers)
    plan = Plan(model.graph.signature, ("a", "b"), (Segment(0, layers, IN_H, (1.0, 1.0)),))
    samples = measure_plan(model, plan, 0, DEVICE, "launch", rounds=3)
    places = Counter(sample.place for sample in samples)
    assert places == {"layer": layers, "enter": 1, "leave": 1}
    assert {sample.scheme for sample in samples} == {"InH"}
    for sample in samples:
        works = work_from_text(sample.work)
        assert sample.configuration == configuration_of(sample.place, sample.work)
        assert sample.op_type == works[0].op_type
        assert sample.repeats == 3
        assert 0 < sample.seconds_p10 <= sample.seconds_p90
    last = work_from_text(samples[-2].work if samples[-1].place != "layer" else samples[-1].work)
    assert last[0].outputs == ((1, 16, 8, 16),)
    assert last[0].cut == (False, False, True, False)


def test_a_device_without_share_measures_nothing() -> None:
    model = residual_model()
    plan = Plan(model.graph.signature, ("a", "b"), (Segment(0, len(model.graph.layers), IN_H, (1.0, 0.0)),))
    assert measure_plan(model, plan, 1, DEVICE, "launch") == []


def test_drawn_plans_cover_all_layers_in_order() -> None:
    writer = GraphWriter()
    image = writer.input(1, 4, 8, 8)
    for _ in range(30):
        image = writer.conv(image, 4)
    graph = writer.graph(image)
    for seed in range(20):
        plan = draw_plan(graph, random.Random(seed))
        assert [segment.first for segment in plan.segments] == [0, *(segment.stop for segment in plan.segments[:-1])]
        assert plan.segments[-1].stop == len(graph.layers)
        assert 2 <= len(plan.devices) <= 6


def test_a_whole_core_takes_the_median() -> None:
    typical, runs = expected_seconds(np.array([1e-3, 2e-3, 9e-3]), 1.0, 0.005)
    assert typical == pytest.approx(2e-3)
    assert list(runs) == [1e-3, 2e-3, 9e-3]


def test_a_short_node_under_a_quota_takes_its_free_time_over_the_share() -> None:
    seconds = np.array([100e-6] * 9 + [4.1e-3])  # stopped once, for the 4 ms that are left of a period
    typical, runs = expected_seconds(seconds, 0.2, 0.005)
    assert typical == pytest.approx(500e-6)
    assert runs == pytest.approx(np.full(10, 500e-6))


def test_a_long_node_under_a_quota_takes_what_it_takes() -> None:
    seconds = np.array([9.8e-3, 10.2e-3, 10.0e-3])  # 2 ms of computing
    typical, _ = expected_seconds(seconds, 0.2, 0.005)
    assert typical == pytest.approx(10e-3)
