"""Drift is seen through noise and clocks that differ, and nothing is seen where nothing is."""

from __future__ import annotations

import random

import pytest

from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.rates import REFERENCE_RATES
from flexpie.master.drift import BASELINE_SAMPLES, RECENT_SAMPLES, Drift, DriftMonitor, Message, Sample
from flexpie.master.estimates import FASTEST_FACTOR, adjusted

NBYTES = 100_000
AB = frozenset("ab")


def _sample(draw: random.Random, compute: float = 0.02, seconds_per_byte: float = 1e-8, skew: float = 1234.5) -> Sample:
    """One request: both devices compute, and send each other a message; b's clock is ahead by `skew`."""

    def noisy(seconds: float) -> float:
        return seconds * (1 + abs(draw.gauss(0, 0.1))) + (0.08 if draw.random() < 0.2 else 0.0)

    return Sample(
        {"a": noisy(compute), "b": noisy(0.02)},
        (
            Message("a", "b", NBYTES, noisy(NBYTES * seconds_per_byte) + skew),
            Message("b", "a", NBYTES, noisy(NBYTES * seconds_per_byte) - skew),
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
        monitor.observe(Sample({}, (Message("a", "b", NBYTES, float(index)),)))
    assert not monitor.drift()


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


def test_a_link_is_not_believed_to_take_no_time() -> None:
    fast = adjusted(CLUSTER, Drift(extra_seconds_per_byte={AB: -1.0}))
    assert fast.between("a", "b").bandwidth_bytes_per_second == pytest.approx(1e8 * FASTEST_FACTOR)
    assert adjusted(CLUSTER, Drift(extra_seconds_per_byte={frozenset(("", "a")): 1e-8})) == CLUSTER
