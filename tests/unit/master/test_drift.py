"""Drift is seen through noise and clocks that differ, and nothing is seen where nothing is."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest

from flexpie.core.cluster import MASTER_NAME, Cluster, Device, Link
from flexpie.core.rates import REFERENCE_RATES
from flexpie.master.drift import BASELINE_SAMPLES, RECENT_SAMPLES, Drift, DriftMonitor, Sample
from flexpie.master.estimates import FASTEST_FACTOR, adjusted
from flexpie.master.transit import Message

NBYTES = 100_000
AB = frozenset("ab")


def _sample(draw: random.Random, compute: float = 0.02, seconds_per_byte: float = 1e-8, skew: float = 1234.5) -> Sample:
    """One request: both devices compute, and send each other a message; b's clock is ahead by `skew`."""

    def noisy(seconds: float) -> float:
        return seconds * (1 + abs(draw.gauss(0, 0.1))) + (0.08 if draw.random() < 0.2 else 0.0)

    return Sample(
        {"a": noisy(compute), "b": noisy(0.02)},
        (
            Message("a", "b", NBYTES, NBYTES, noisy(NBYTES * seconds_per_byte) + skew),
            Message("b", "a", NBYTES, NBYTES, noisy(NBYTES * seconds_per_byte) - skew),
        ),
    )


def _monitor(draw: random.Random) -> DriftMonitor:
    monitor = DriftMonitor()
    for _ in range(BASELINE_SAMPLES + RECENT_SAMPLES):
        monitor.observe(_sample(draw))
    return monitor


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_drift(seed: int) -> None:
    draw = random.Random(seed)
    monitor = _monitor(draw)
    for _ in range(100):
        monitor.observe(_sample(draw))
        assert not monitor.drift()


def test_nothing_is_concluded_from_few_samples() -> None:
    draw, monitor = random.Random(1), DriftMonitor()
    for _ in range(BASELINE_SAMPLES):
        monitor.observe(_sample(draw))
    for _ in range(RECENT_SAMPLES - 1):
        monitor.observe(_sample(draw, compute=0.2))
        assert not monitor.drift()
    assert monitor.compute_seconds("a") is None


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_a_device_of_another_speed_is_found(factor: float) -> None:
    draw = random.Random(2)
    monitor = _monitor(draw)
    for _ in range(RECENT_SAMPLES):
        monitor.observe(_sample(draw, compute=0.02 * factor))
    drift = monitor.drift()
    assert set(drift.slowdowns) == {"a"}
    assert drift.slowdowns["a"] == pytest.approx(factor, rel=0.15)
    assert not drift.extra_seconds_per_byte
    assert monitor.compute_seconds("a") == pytest.approx(0.02 * factor, rel=0.15)


def test_a_link_of_a_tenth_is_found_whatever_the_clocks_say() -> None:
    draw = random.Random(3)
    monitor = _monitor(draw)
    for _ in range(RECENT_SAMPLES):
        monitor.observe(_sample(draw, seconds_per_byte=1e-7))
    drift = monitor.drift()
    assert not drift.slowdowns
    assert set(drift.extra_seconds_per_byte) == {AB}
    assert drift.extra_seconds_per_byte[AB] == pytest.approx(0.9e-7, rel=0.2)


def test_a_message_that_is_not_answered_tells_nothing() -> None:
    monitor = DriftMonitor()
    for index in range(100):
        monitor.observe(Sample({}, (Message("a", "b", NBYTES, NBYTES, float(index)),)))
    assert not monitor.drift()


# The master sends each of three devices a quarter of its input, all exchange messages, and a sends the output.
QUARTER, HALO, OUTPUT = 150_000, 25_000, 4_000
PORT = 1 / 125e6
"""Seconds per byte of every port."""


def _request(draw: random.Random, slow: str = "", factor: float = 1.0) -> Sample:
    """A request of devices with clocks that are hours apart; one port is slower, both ways."""
    clocks = {MASTER_NAME: 0.0, "a": 5000.0, "b": -3000.0, "c": 12345.0}
    devices = ("a", "b", "c")

    def message(source: str, destination: str, source_bytes: int, destination_bytes: int) -> Message:
        ports = ((source, source_bytes), (destination, destination_bytes))
        seconds = max(PORT * (factor if end == slow else 1.0) * nbytes for end, nbytes in ports)
        seconds += abs(draw.gauss(0, 0.5e-3))
        seconds += clocks[destination] - clocks[source]
        return Message(source, destination, source_bytes, destination_bytes, seconds)

    return Sample(
        {},
        (
            *(message(MASTER_NAME, device, 3 * QUARTER, QUARTER) for device in devices),
            *(message(*pair, 2 * HALO, 2 * HALO) for pair in itertools.permutations(devices, 2)),
            message("a", MASTER_NAME, OUTPUT, OUTPUT),
        ),
    )


def _drift(slow: str, factor: float, before: float = 1.0) -> Drift:
    """What is told when a port becomes slower."""
    draw, monitor = random.Random(4), DriftMonitor()
    for _ in range(BASELINE_SAMPLES):
        monitor.observe(_request(draw, slow, before))
    for _ in range(RECENT_SAMPLES):
        monitor.observe(_request(draw, slow, factor))
    return monitor.drift()


def test_a_sample_that_lacks_messages_spoils_nothing() -> None:
    draw, monitor = random.Random(5), DriftMonitor()
    sample = _request(draw)
    monitor.observe(dataclasses.replace(sample, messages=sample.messages[:-1]))  # without the answer
    for messages in (sample.messages[1:], sample.messages[3:5]):
        monitor.observe(dataclasses.replace(sample, messages=messages))
    for factor in (1.0, 10.0):
        for _ in range(BASELINE_SAMPLES):
            monitor.observe(_request(draw, "b", factor))
    assert set(monitor.drift().ports) == {"b"}


@pytest.mark.parametrize("device", ["b", "c"])
def test_a_slow_port_is_found_in_its_links_to_all_and_to_the_master_that_it_sends_nothing(device: str) -> None:
    drift = _drift(device, 10.0)
    assert set(drift.ports) == {device}
    assert drift.ports[device] == pytest.approx(9 * PORT, rel=0.2)
    assert not drift.extra_seconds_per_byte


def test_small_messages_that_take_longer_do_not_tell_how_fast_a_port_is() -> None:
    """Something else holds up every message by the same."""
    monitor = DriftMonitor()
    for late in (0.0, 8e-3):
        for _ in range(BASELINE_SAMPLES):
            pairs = {("a", "b"): 1_000_000, ("a", "c"): 2_000}
            messages = [
                Message(*ends, nbytes, nbytes, 2 * nbytes * PORT + late)
                for way, nbytes in pairs.items()
                for ends in (way, way[::-1])
            ]
            monitor.observe(Sample({}, tuple(messages)))
    assert monitor.drift().ports["a"] == pytest.approx(8e-3 / 1_000_000, rel=0.01)


def test_what_the_last_message_at_a_port_takes_tells_how_fast_it_is() -> None:
    """The others of an exchange wait for a part of the bytes only."""
    monitor = DriftMonitor()
    for factor in (1, 10):
        for _ in range(BASELINE_SAMPLES):
            monitor.observe(
                Sample(
                    {},
                    tuple(
                        Message(source, destination, 2 * NBYTES, 2 * NBYTES, factor * place * NBYTES * PORT)
                        for place, other in enumerate("bc", start=1)
                        for source, destination in (("a", other), (other, "a"))
                    ),
                )
            )
    assert monitor.drift().ports == {"a": pytest.approx(9 * PORT)}


def test_a_slow_port_is_not_blamed_on_others_whose_clocks_are_compared_through_it() -> None:
    assert set(_drift("a", 10.0).ports) == {"a"}
    again = _drift("a", 1.0, before=10.0)
    assert set(again.ports) == {"a"}
    assert again.ports["a"] < 0
    assert not again.extra_seconds_per_byte


def test_a_slow_port_of_the_master_is_seen_where_messages_go_both_ways() -> None:
    """The clocks of the others are compared through that link, which is in doubt then."""
    extra = _drift(MASTER_NAME, 4.0).extra_seconds_per_byte
    assert set(extra) == {frozenset((MASTER_NAME, "a"))}
    assert extra[frozenset((MASTER_NAME, "a"))] == pytest.approx(3 * PORT, rel=0.2)


CLUSTER = Cluster((Device("a", "a:1"), Device("b", "b:1", 2.0)), Link(1e8, 1e-4))


def test_a_slower_device_is_slower_in_everything() -> None:
    a, b = adjusted(CLUSTER, Drift({"b": 4.0})).devices
    assert a == CLUSTER.devices[0]
    assert b.speed == 0.5
    assert b.rates.dense_flops_per_second == REFERENCE_RATES.dense_flops_per_second * 0.5


def test_a_slower_link_is_slower_both_ways_and_can_be_faster_again() -> None:
    slow = adjusted(CLUSTER, Drift(extra_seconds_per_byte={AB: 9e-8}))
    assert slow.between("a", "b").bandwidth_bytes_per_second == pytest.approx(1e7)
    assert slow.between("b", "a") == slow.between("a", "b")
    again = adjusted(slow, Drift(extra_seconds_per_byte={AB: -9e-8}))
    assert again.between("a", "b").bandwidth_bytes_per_second == pytest.approx(1e8)
    assert again.between("a", "b").latency_seconds == 1e-4


def test_all_links_of_a_slow_port_are_slow() -> None:
    slow = adjusted(CLUSTER, Drift(ports={"a": 9e-8}, extra_seconds_per_byte={AB: 1e-8}))
    links = (("a", "b"), ("b", "a"), ("a", MASTER_NAME), (MASTER_NAME, "a"))
    assert all(slow.between(*link).bandwidth_bytes_per_second == pytest.approx(1e7) for link in links)
    assert slow.between("b", MASTER_NAME) == CLUSTER.link


def test_of_two_slow_ports_the_slower_one_holds_up_what_passes_both() -> None:
    slow = adjusted(CLUSTER, Drift(ports={"a": 9e-8, "b": 1e-8}))
    assert slow.between("a", "b").bandwidth_bytes_per_second == pytest.approx(1e7)
    assert slow.between("b", MASTER_NAME).bandwidth_bytes_per_second == pytest.approx(5e7)


@pytest.mark.parametrize("kind", ["extra_seconds_per_byte", "ports"])
def test_more_of_the_same_is_news_and_a_little_more_is_not(kind: str) -> None:
    key = AB if kind == "extra_seconds_per_byte" else "a"

    def drift(seconds: float) -> Drift:
        changes: dict[str, Any] = {kind: {key: seconds}}
        return Drift(**changes)

    assert drift(1e-8)
    assert drift(1e-8).is_more_than(Drift())
    assert drift(2e-8).is_more_than(drift(1e-8))
    assert not drift(1.2e-8).is_more_than(drift(1e-8))


def test_a_link_is_not_believed_to_take_no_time() -> None:
    fast = adjusted(CLUSTER, Drift(extra_seconds_per_byte={AB: -1.0}))
    assert fast.between("a", "b").bandwidth_bytes_per_second == pytest.approx(1e8 * FASTEST_FACTOR)


def test_a_slow_link_to_the_master_is_one_for_the_planner_too() -> None:
    slow = adjusted(CLUSTER, Drift(extra_seconds_per_byte={frozenset((MASTER_NAME, "a")): 9e-8}))
    assert slow.between("a", MASTER_NAME) == slow.between(MASTER_NAME, "a")
    assert slow.between("a", MASTER_NAME).bandwidth_bytes_per_second == pytest.approx(1e7)
    assert slow.between("b", MASTER_NAME) == slow.between("a", "b") == CLUSTER.link
