"""Simulated times, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from flexpie.core.cluster import Topology
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.program import MASTER
from flexpie.core.scheme import IN_H, OUT_C, Scheme, single
from flexpie.planner.cost import Array, LayerWork, MessageCosts
from flexpie.planner.evaluation import evaluate
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.schedule import Part, outline
from flexpie.planner.simulation import simulate
from flexpie.planner.timeline import Activity, DeviceTime
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain, residual_net

BANDWIDTH = 1e3
"""Bytes per second."""


@dataclass(frozen=True)
class PlainCosts:
    """A second for each layer on device 0, twice that on device 1, and so on; messages as given."""

    devices: int
    send: float = 0.0
    receive: float = 0.0
    byte: float = 0.0
    start: float = 0.0

    @property
    def messages(self) -> MessageCosts:
        """See `flexpie.planner.cost.CostModel`."""
        ends = np.ones(self.devices + 1)
        start = np.array([*[self.start] * self.devices, 0.0])
        return MessageCosts(ends * self.send, ends * self.receive, ends * self.byte, start)

    @property
    def twins(self) -> tuple[int, ...]:
        """See `flexpie.planner.cost.CostModel`."""
        return tuple(range(self.devices))

    def compute_seconds(self, device: int, works: Sequence[LayerWork]) -> Array:
        """See `flexpie.planner.cost.CostModel`."""
        return np.full(len(works), 1.0 + device)

    def exchange_seconds(self, nbytes: Array) -> Array:
        """The simulator does not ask for it."""
        raise NotImplementedError


def relus(count: int) -> LayerGraph:
    """On a vector of 250 floats, 1,000 bytes."""
    writer = GraphWriter()
    image = writer.input(1, 1, 250, 1)
    for _ in range(count):
        image = writer.relu(image)
    return writer.graph(image)


def alone(first: int, stop: int, device: int, devices: int = 2) -> Segment:
    return Segment(first, stop, single(device), tuple(float(index == device) for index in range(devices)))


def test_layers_at_the_borders_of_a_segment_are_told_apart() -> None:
    graph, cluster = relus(4), cluster_of(1)
    outlined = outline(graph, cluster, [alone(0, 3, 0, 1), alone(3, 4, 0, 1)])
    parts = [step for step in outlined.devices[0] if isinstance(step, Part)]
    found = [[(works[0].enters, works[0].leaves) for works in part.works] for part in parts]
    assert found == [[(True, False), (False, False), (False, True)], [(True, True)]]


def test_a_request_comes_from_a_client_and_goes_back_to_it() -> None:
    class Costs(PlainCosts):
        @property
        def messages(self) -> MessageCosts:
            return replace(super().messages, client_seconds=0.5, client_seconds_per_byte=1e-3)

    graph, cluster = relus(2), cluster_of(1)
    near, far = (simulate(graph, cluster, [alone(0, 2, 0, 1)], costs(1)) for costs in (PlainCosts, Costs))
    assert far.latency == pytest.approx(near.latency + 2 * (0.5 + 1.0))
    assert far.per_device(0).computing == near.per_device(0).computing
    total = far.per_device(0)
    assert total.computing + total.waiting + total.sending == pytest.approx(far.latency)


def test_one_device_after_the_other() -> None:
    cluster = cluster_of(1.0, 1.0, bandwidth=BANDWIDTH, latency=0.25)
    segments = [alone(0, 1, 0), alone(1, 3, 1)]
    result = simulate(relus(3), cluster, segments, PlainCosts(2))
    # Three transfers of a second and a quarter; one second on the first device, two layers on the second.
    assert result.latencies == pytest.approx([3 * 1.25 + 1 + 4])
    first, second = DeviceTime(1.0, 1.25, 0.0), DeviceTime(4.0, 1.25 + 1 + 1.25, 0.0)
    assert result.times[0] == (first, DeviceTime())
    assert result.times[1] == (DeviceTime(), second)
    assert result.times[2] == (DeviceTime(0.0, 6.5, 0.0), DeviceTime(0.0, 1.25, 0.0))
    assert result.utilisation(0) == pytest.approx(1 / 8.75)


def test_messages_take_processor_time_at_both_ends() -> None:
    cluster = cluster_of(1.0, bandwidth=BANDWIDTH, latency=0.0)
    costs = PlainCosts(1, send=0.5, receive=0.25, byte=1e-3, start=0.125)
    result = simulate(relus(1), cluster, [alone(0, 1, 0, devices=1)], costs)
    handling = 0.5 + 1 + 0.25 + 1  # of one message of 1,000 bytes, at its two ends
    assert result.latency == pytest.approx(2 * (handling + 1) + 0.125 + 1)
    device = result.per_device(0)
    assert device.sending == pytest.approx(handling + 0.125)
    assert device.computing == 1.0
    activities = [span.activity for span in result.spans if span.device == 0]
    assert activities == [
        Activity.RECEIVING, Activity.STARTING, Activity.COMPUTING, Activity.SENDING, Activity.TRANSFERRING
    ]  # fmt: skip
    assert {span.device for span in result.spans} == {MASTER, 0}


def test_a_port_sends_and_receives_one_message_at_a_time() -> None:
    """The master's four quarters leave one after another; so do the results that arrive."""
    cluster = cluster_of(*[1.0] * 2, bandwidth=BANDWIDTH, latency=0.0)
    result = simulate(relus(1), cluster, [Segment(0, 1, IN_H, (1.0, 1.0))], PlainCosts(2))
    # The second half arrives after a second, takes two seconds, and comes back in half a second.
    assert result.latency == pytest.approx(1 + 2 + 0.5)


def test_nobody_waits_for_a_barrier() -> None:
    """A device that is done goes on as soon as its own neighbour's rows are there."""
    cluster = cluster_of(*[1.0] * 4, bandwidth=1e12, latency=0.0)
    graph = conv_chain(count=2, size=32)
    segments = [Segment(0, 1, IN_H, (1.0,) * 4), Segment(1, 2, IN_H, (1.0,) * 4)]
    result = simulate(graph, cluster, segments, PlainCosts(4))
    ends = {(span.device, span.segment): span.stop for span in result.spans if span.activity is Activity.COMPUTING}
    assert ends[0, 1] == pytest.approx(2 + 1, abs=1e-3)  # not 4 + 1: it needs nothing of device 3
    assert result.latency == pytest.approx(4 + 4, abs=1e-3)


def test_what_is_relayed_costs_the_device_between() -> None:
    segments = [alone(0, 1, 1, 3), alone(1, 2, 2, 3)]
    costs = PlainCosts(3, send=0.5, receive=0.25)
    latencies = {}
    for topology in Topology:
        cluster = cluster_of(*[1.0] * 3, bandwidth=BANDWIDTH, latency=0.0, topology=topology)
        result = simulate(relus(2), cluster, segments, costs)
        latencies[topology] = result.latency
        relayed = 0.75 if topology is Topology.STAR else 0.0
        assert result.per_device(0).sending == pytest.approx(relayed)
    assert latencies[Topology.RING] == latencies[Topology.MESH]  # the two are neighbours
    assert latencies[Topology.STAR] == pytest.approx(latencies[Topology.MESH] + 0.75 + 1)


def test_requests_in_flight_overlap_on_different_devices() -> None:
    cluster = cluster_of(1.0, 1.0, bandwidth=1e12, latency=0.0)
    segments = [alone(0, 2, 0), alone(2, 3, 1)]  # two seconds on each device
    single_file = simulate(relus(3), cluster, segments, PlainCosts(2), requests=10)
    pipelined = simulate(relus(3), cluster, segments, PlainCosts(2), requests=10, in_flight=2)
    assert single_file.makespan == pytest.approx(40, rel=1e-6)
    assert pipelined.makespan == pytest.approx(22, rel=1e-6)
    assert pipelined.throughput == pytest.approx(10 / 22, rel=1e-6)
    assert pipelined.utilisation(0) == pytest.approx(20 / 22, rel=1e-6)
    assert min(pipelined.latencies) == pytest.approx(4, rel=1e-6)


def test_jitter_is_reproducible_and_has_the_same_mean() -> None:
    cluster = cluster_of(1.0, bandwidth=1e12, latency=0.0)
    segments = [alone(0, 1, 0, devices=1)]
    runs = [
        simulate(relus(1), cluster, segments, PlainCosts(1), requests=4000, jitter=0.3, seed=seed) for seed in (1, 1, 2)
    ]
    assert runs[0].latencies == runs[1].latencies
    assert runs[0].latencies != runs[2].latencies
    assert runs[0].latency == pytest.approx(1.0, rel=0.02)
    assert np.std(np.log(runs[0].latencies)) == pytest.approx(0.3, rel=0.05)
    assert runs[0].percentile(100) == max(runs[0].latencies)
    assert runs[0].percentile(50) < runs[0].latency < runs[0].percentile(99)


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("scheme", [IN_H, OUT_C], ids=str)
def test_it_is_near_the_prediction_with_barriers_and_not_above_it_by_much(topology: Topology, scheme: Scheme) -> None:
    graph = residual_net(blocks=3, size=56, channels=64)
    cluster = cluster_of(*[0.2] * 4, topology=topology)
    model = PhysicsCostModel(cluster)
    segments = [Segment(at, at + 1, scheme, (1.0,) * 4) for at in range(len(graph.layers))]
    predicted = evaluate(graph, cluster, segments, model).predicted_seconds
    simulated = simulate(graph, cluster, segments, model).latency
    assert 0.5 * predicted < simulated < 1.1 * predicted
