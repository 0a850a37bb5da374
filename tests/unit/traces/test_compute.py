"""Layers measured inside segments: who is credited with which node, and what a sample says."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from flexpie.compiler.kernels import KERNELS
from flexpie.core.plan import Plan, Segment
from flexpie.core.rates import REFERENCE_RATES
from flexpie.core.scheme import IN_H
from flexpie.traces.compute import (
    LEAST_ROUNDS,
    MOST_ROUNDS,
    Companion,
    Launch,
    MeasuredDevice,
    ProfilerCost,
    draw_plan,
    expected_seconds,
    measure,
    measure_profiler,
    middle,
    rounds_in,
    this_device,
)
from flexpie.traces.works import configuration_of, work_from_text
from tests.unit.planner.graphs import GraphWriter
from tests.unit.traces.residual import residual_model

DEVICE = MeasuredDevice("d0", REFERENCE_RATES)


def test_every_layer_and_border_of_a_segment_gets_a_sample() -> None:
    model = residual_model()
    layers = len(model.graph.layers)
    plan = Plan(model.graph.signature, ("a", "b"), (Segment(0, layers, IN_H, (1.0, 1.0)),))
    samples = measure(Launch("launch", model, plan, 0), DEVICE, rounds=3)
    places = Counter(sample.place for sample in samples)
    assert places == {"layer": layers, "enter": 1, "leave": 1}
    assert {sample.scheme for sample in samples} == {"InH"}
    for sample in samples:
        works = work_from_text(sample.work)
        assert sample.configuration == configuration_of(sample.place, sample.work)
        assert sample.op_type == works[0].op_type
        assert sample.repeats == 3
        assert 0 < sample.seconds_p10 <= sample.seconds_p90
    by_position = {sample.position: work_from_text(sample.work) for sample in samples if sample.place == "layer"}
    assert set(by_position) == {"first", "inner", "last"}
    assert by_position["last"][0].outputs == ((1, 16, 8, 16),)
    assert by_position["last"][0].cut == (False, False, True, False)
    assert by_position["first"][0].fed_by == ""
    assert by_position["last"][0].fed_by == "Relu"


def test_a_device_without_share_measures_nothing() -> None:
    model = residual_model()
    plan = Plan(model.graph.signature, ("a", "b"), (Segment(0, len(model.graph.layers), IN_H, (1.0, 0.0)),))
    assert measure(Launch("launch", model, plan, 1), DEVICE) == []


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


def test_a_whole_core_takes_the_mean_of_the_middle_half() -> None:
    typical, runs = expected_seconds(np.array([1e-3, 2e-3, 9e-3]), 1.0, 0.005)
    assert typical == pytest.approx(2e-3)
    assert list(runs) == [1e-3, 2e-3, 9e-3]
    assert middle(np.array([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0])) == pytest.approx(2.5)
    assert middle(np.array([7.0])) == 7.0


def test_short_launches_are_run_more_often() -> None:
    assert rounds_in(1e-9) == MOST_ROUNDS
    assert rounds_in(0.02) == 10
    assert rounds_in(5.0) == LEAST_ROUNDS


def test_a_short_node_under_a_quota_takes_its_free_time_over_the_share() -> None:
    seconds = np.array([100e-6] * 9 + [4.1e-3])  # stopped once, for the 4 ms that are left of a period
    typical, runs = expected_seconds(seconds, 0.2, 0.005)
    assert typical == pytest.approx(500e-6)
    assert runs == pytest.approx(np.full(10, 500e-6))


def test_a_long_node_under_a_quota_takes_what_it_takes() -> None:
    seconds = np.array([9.8e-3, 10.2e-3, 10.0e-3])  # 2 ms of computing
    typical, _ = expected_seconds(seconds, 0.2, 0.005)
    assert typical == pytest.approx(10e-3)


def test_a_companion_tells_which_rounds_were_quiet() -> None:
    companion = Companion(1)
    companion.seconds = {"dense": [1.0, 1.0, 5.0, 1.0, 1.1], "node": [1.0, 1.0, 5.0, 1.0, 1.1]}
    assert companion.quiet(2) == [0, 3]  # rounds 1 and 2 have the disturbance at one of their ends
    assert companion.typical([0], 1.0, 0.005) == {"dense": 1.0, "node": 1.0}
    assert companion.typical([2, 3], 1.0, 0.005)["dense"] == pytest.approx(1.1)


def test_rates_are_corrected_by_the_companion() -> None:
    companion = Companion(1)
    taken = dict.fromkeys(companion.seconds, 2.0)
    device = MeasuredDevice("d0", REFERENCE_RATES, companion=companion, companion_seconds=taken)
    companion.seconds = {name: [4.0, 4.0] for name in taken}
    assert device.rates_now([0]).dense_flops_per_second == REFERENCE_RATES.dense_flops_per_second / 2
    assert device.rates_now([0]).node_seconds == REFERENCE_RATES.node_seconds * 2
    assert device.rates_now([0]).send_seconds == REFERENCE_RATES.send_seconds


def test_a_launch_with_a_companion_keeps_its_quiet_rounds() -> None:
    model = residual_model()
    plan = Plan(model.graph.signature, ("a",), (Segment(0, len(model.graph.layers), IN_H, (1.0,)),))
    companion = Companion(1)
    device = MeasuredDevice("d0", REFERENCE_RATES, companion=companion, companion_seconds=dict.fromkeys(
        companion.seconds, 1e-4))  # fmt: skip
    samples = measure(Launch("launch", model, plan, 0), device, rounds=10)
    assert {sample.repeats for sample in samples} == {5}  # the quiet half
    assert all(len(times) == 11 for times in companion.seconds.values())


def test_the_profiler_s_own_time_is_taken_off() -> None:
    cost = ProfilerCost(1e-6, 0.5e-6)
    seconds = np.array([[10e-6, 2e-6]])
    assert cost.corrected(seconds, (4, 2)) == pytest.approx(np.array([[7e-6, 0.2e-6]]))


def test_the_profiler_takes_microseconds() -> None:
    cost = measure_profiler(rounds=5)
    assert 0 < cost.node_seconds + 2 * cost.tensor_seconds < 1e-3


def test_this_machine_is_a_device_with_rates_of_its_own() -> None:
    device = this_device("here", rounds=2)
    assert set(device.companion_seconds) == set(KERNELS)
    assert 1e7 < device.rates.dense_flops_per_second < 1e14
    assert device.rates.send_seconds == REFERENCE_RATES.send_seconds  # nothing here tells what messages cost
