"""Programs of devices that pass on what is for others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from flexpie.compiler import lower
from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.plan import Plan, Segment
from flexpie.core.program import DeviceProgram, Receive, Run, Send
from flexpie.core.routes import neighbours, relayed_ways
from flexpie.core.scheme import GRID_2D, IN_H, OUT_C, Scheme, single
from tests.random_graphs import GraphWriter
from tests.random_plans import forced_plan, plan_of
from tests.splitting import imported, run_split, run_unsplit


def model() -> onnx.ModelProto:
    """Two convolutions, one after the other."""
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 4, 12, 12)
    first = writer.add("Conv", ["x", writer.weight(8, 4, 3, 3)], pads=[1] * 4)
    return writer.model(["x"], [writer.add("Conv", [first, writer.weight(8, 8, 3, 3)], pads=[1] * 4)])


def network(devices: int, topology: Topology) -> Cluster:
    return Cluster(tuple(Device(f"d{index}", f"d{index}:1") for index in range(devices)), Link(1e9, 0.0), topology)


def relaying(plan: Plan, topology: Topology) -> Plan:
    return replace(plan, relayed=relayed_ways(network(len(plan.devices), topology)))


def kinds(program: DeviceProgram | None) -> list[type]:
    assert program is not None
    return [type(step) for step in program.steps if isinstance(step, Receive | Send | Run)]


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("scheme", [IN_H, OUT_C, GRID_2D], ids=str)
@pytest.mark.parametrize("devices", [3, 4, 6])
def test_devices_send_to_neighbours_only_and_answer_the_same(devices: int, scheme: Scheme, topology: Topology) -> None:
    original = model()
    split = imported(original)
    plan = relaying(forced_plan(split.graph, devices, scheme), topology)
    cluster = network(devices, topology)
    for index, program in enumerate(lower(split.graph, plan).programs):
        assert program is not None
        assert set(program.peers) <= set(neighbours(cluster, index))
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 12, 12)).astype(np.float32)}
    expected = run_unsplit(original, feeds)
    assert expected is not None
    answer, _ = run_split(split, plan, feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-5)


def test_a_device_without_a_share_relays() -> None:
    """The center of a star, between the two devices that compute."""
    graph = imported(model()).graph
    segments = [Segment(0, 1, single(1), (0.0, 1.0, 0.0)), Segment(1, 2, single(2), (0.0, 0.0, 1.0))]
    lowered = lower(graph, relaying(plan_of(graph, 3, segments), Topology.STAR))
    center = lowered.programs[0]
    assert kinds(center) == [Receive, Send]
    assert lowered.subgraphs[0] == ()
    assert kinds(lowered.programs[1]) == [Receive, Run, Send]
    direct = lower(graph, plan_of(graph, 3, segments))
    assert direct.programs[0] is None


def test_a_relay_sends_its_own_before_it_waits() -> None:
    graph = imported(model()).graph
    lowered = lower(graph, relaying(forced_plan(graph, 4, OUT_C), Topology.STAR))
    # Its own part to the three others, theirs to it, and then to each what the two others have.
    exchange = [Send, Send, Send, Receive, Receive, Receive, Send, Send, Send]
    assert kinds(lowered.programs[0]) == [Receive, Run, *exchange, Run, Send]
    assert kinds(lowered.programs[1]) == [Receive, Run, Send, Receive, Receive, Run, Send]


def test_what_passes_the_center_of_a_star_passes_it_once() -> None:
    original = model()
    split = imported(original)
    plan = relaying(forced_plan(split.graph, 4, OUT_C), Topology.STAR)
    _, devices = run_split(split, plan, {"x": np.zeros((1, 4, 12, 12), np.float32)})
    quarter = 2 * 12 * 12 * 4
    assert devices.sent_bytes[1, 0] == quarter  # not once for each of the three others
    assert devices.sent_bytes[0, 1] == 3 * quarter
    assert (1, 2) not in devices.sent_bytes
