from __future__ import annotations

import numpy as np
import pytest

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.footprint import segment_footprints
from flexpie.core.rates import REFERENCE_RATES
from flexpie.core.scheme import IN_H, OUT_C, single
from flexpie.planner.cost import Work, work_of
from flexpie.planner.physics import PhysicsCostModel, work_seconds
from tests.unit.planner.graphs import GraphWriter, cluster_of


def conv_work(
    channels_in: int, channels_out: int, size: int, kernel: int, scheme: str = "whole", depthwise: bool = False
) -> Work:
    """The first device's work of one convolution, whole or a quarter."""
    writer = GraphWriter()
    image = writer.input(1, channels_in, size, size)
    graph = writer.graph(writer.conv(image, channels_out, kernel, depthwise=depthwise))
    chosen = {"whole": single(0), "rows": IN_H, "channels": OUT_C}[scheme]
    return work_of(graph, segment_footprints(graph, 0, 1, chosen, (1.0,) * 4)[0].parts[0])


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "size", "kernel", "milliseconds"),
    [(64, 64, 56, 3, 0.98), (128, 128, 28, 3, 0.96), (256, 256, 14, 3, 0.94), (512, 512, 7, 3, 1.09),
     (512, 512, 14, 1, 0.45), (1024, 1024, 7, 1, 0.44)],
)  # fmt: skip
def test_dense_convolutions_take_what_was_measured(
    channels_in: int, channels_out: int, size: int, kernel: int, milliseconds: float
) -> None:
    work = conv_work(channels_in, channels_out, size, kernel)
    assert work_seconds(work, REFERENCE_RATES) * 1e3 == pytest.approx(milliseconds, rel=0.15)


def test_a_depthwise_convolution_is_bound_by_memory() -> None:
    work = conv_work(128, 128, 56, 3, depthwise=True)
    assert work.group == 128
    assert work_seconds(work, REFERENCE_RATES) * 1e3 == pytest.approx(0.14, rel=0.15)


@pytest.mark.parametrize(
    ("size", "channels", "scheme", "speedup"),
    [(56, 64, "rows", 3.9), (56, 64, "channels", 2.8), (28, 128, "rows", 3.8), (28, 128, "channels", 3.6),
     (14, 256, "rows", 3.2), (14, 256, "channels", 3.9), (7, 512, "rows", 2.9)],
)  # fmt: skip
def test_a_quarter_is_as_much_faster_as_was_measured(size: int, channels: int, scheme: str, speedup: float) -> None:
    whole = work_seconds(conv_work(channels, channels, size, 3), REFERENCE_RATES)
    part = work_seconds(conv_work(channels, channels, size, 3, scheme), REFERENCE_RATES)
    assert whole / part == pytest.approx(speedup, rel=0.12)


def test_a_convolution_of_nothing_takes_no_time_to_speak_of() -> None:
    assert work_seconds(conv_work(8, 8, 0, 3), REFERENCE_RATES) == pytest.approx(REFERENCE_RATES.node_seconds, rel=0.1)


def test_a_slower_device_takes_longer_in_proportion() -> None:
    model = PhysicsCostModel(cluster_of(1.0, 0.25))
    work = conv_work(16, 16, 8, 3)
    assert model.compute_seconds(1, [(work,)])[0] == pytest.approx(4 * model.compute_seconds(0, [(work,)])[0])


def test_an_activation_after_a_convolution_is_free_in_the_same_layer_only() -> None:
    alone = Work("Relu", 1000, 4000, 4000, 0, ((1, 10, 10, 10),), ((1, 10, 10, 10),))
    linked = Work("Relu", 1000, 4000, 4000, 0, ((1, 10, 10, 10),), ((1, 10, 10, 10),), linked=True)
    assert work_seconds(alone, REFERENCE_RATES) > 0
    assert work_seconds(linked, REFERENCE_RATES) == 0


def test_no_bytes_take_no_time() -> None:
    model = PhysicsCostModel(cluster_of(1.0, 1.0))
    assert model.exchange_seconds(np.zeros((3, 3))) == 0
    assert model.exchange_seconds(np.zeros((5, 4, 3, 3))).shape == (5, 4)


def test_one_message_costs_both_ends_and_the_link() -> None:
    model = PhysicsCostModel(cluster_of(0.5, 1.0, bandwidth=1e6, latency=0.25))
    nbytes = np.zeros((3, 3))
    nbytes[0, 1] = 1000
    sender = (REFERENCE_RATES.send_seconds + 1000 * REFERENCE_RATES.end_seconds_per_byte) / 0.5 + 1e-3
    receiver = (
        REFERENCE_RATES.receive_seconds
        + 1000 * REFERENCE_RATES.end_seconds_per_byte
        + REFERENCE_RATES.start_seconds
        + 1e-3
    )
    assert model.exchange_seconds(nbytes) == pytest.approx(max(sender, receiver) + 0.25)


def test_messages_to_different_devices_share_the_senders_port() -> None:
    model = PhysicsCostModel(cluster_of(1.0, 1.0, 1.0, bandwidth=1e6, latency=0.0))
    one, two = np.zeros((4, 4)), np.zeros((4, 4))
    one[3, 0] = two[3, 0] = two[3, 1] = 10**6
    assert model.exchange_seconds(one) == pytest.approx(1.0, rel=0.01)
    assert model.exchange_seconds(two) == pytest.approx(2.0, rel=0.01)


def test_sending_and_receiving_overlap_on_the_wire() -> None:
    model = PhysicsCostModel(cluster_of(1.0, 1.0, bandwidth=1e6, latency=0.0))
    nbytes = np.zeros((3, 3))
    nbytes[0, 1] = nbytes[1, 0] = 10**6
    assert model.exchange_seconds(nbytes) == pytest.approx(1.0, rel=0.01)


def test_a_link_of_its_own_is_used() -> None:
    devices = (Device("a", "a:1"), Device("b", "b:1"))
    slow = {("a", "b"): Link(1e3, 0.5)}
    model = PhysicsCostModel(Cluster(devices, Link(1e6, 0.0), links=slow))
    there, back = np.zeros((3, 3)), np.zeros((3, 3))
    there[0, 1] = back[1, 0] = 1e3
    assert model.exchange_seconds(there) > 1.5
    assert model.exchange_seconds(back) < 0.1


def test_relayed_messages_are_charged_to_the_relay() -> None:
    nbytes = np.zeros((5, 5))
    nbytes[0, 2] = 10**6
    seconds = {
        topology: float(
            PhysicsCostModel(cluster_of(1, 1, 1, 1, bandwidth=1e6, latency=0.1, topology=topology)).exchange_seconds(
                nbytes
            )
        )
        for topology in Topology
    }
    assert seconds[Topology.MESH] == seconds[Topology.STAR] < seconds[Topology.RING]


def test_more_bytes_never_take_less_time() -> None:
    random = np.random.default_rng(0)
    model = PhysicsCostModel(cluster_of(1.0, 0.2, 0.5, topology=Topology.RING))
    fewer = random.random((200, 4, 4)) * random.integers(0, 2, (200, 4, 4)) * 1e6
    more = fewer + random.random((200, 4, 4)) * random.integers(0, 2, (200, 4, 4)) * 1e6
    assert (model.exchange_seconds(more) >= model.exchange_seconds(fewer)).all()
