"""The formulas of calibration: a device that keeps to the physics model gets back the rates that it has."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.rates import REFERENCE_RATES, DeviceRates
from flexpie.traces import calibrating
from flexpie.traces.calibrating import LARGE_BYTES, SEVERAL, SMALL_BYTES

RATES = REFERENCE_RATES.scaled(0.2)
NBYTES = 300_000


def _cluster(rates: tuple[DeviceRates, ...], link: Link, topology: Topology = Topology.MESH) -> Cluster:
    devices = tuple(Device(f"d{at}", f"d{at}:1", measured=own) for at, own in enumerate(rates))
    return Cluster(devices, link, topology)


def test_a_device_gets_back_the_rates_of_its_messages() -> None:
    both = RATES.send_seconds + RATES.receive_seconds
    one = both + RATES.start_seconds
    several = SEVERAL * both + RATES.start_seconds
    large = one + 2 * (LARGE_BYTES - SMALL_BYTES) * RATES.end_seconds_per_byte
    found = calibrating._message_rates(REFERENCE_RATES, one, several, large, send=RATES.send_seconds)
    wanted = dataclasses.replace(
        REFERENCE_RATES,
        **{name: getattr(RATES, name) for name in ("send_seconds", "receive_seconds", "start_seconds")},
        end_seconds_per_byte=RATES.end_seconds_per_byte,
    )
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(wanted))


def test_noise_makes_no_cost_negative_or_nothing() -> None:
    found = calibrating._message_rates(RATES, one=3e-3, several=2e-3, large=1e-3, send=0.0)
    for name in ("send_seconds", "receive_seconds", "start_seconds", "end_seconds_per_byte"):
        assert 0 < getattr(found, name) < 3e-3


@pytest.mark.parametrize("link", [Link(125e6, 3e-4), Link(2e6, 4e-3)])
def test_a_link_gets_back_its_bandwidth_and_latency(link: Link) -> None:
    slow = RATES.scaled(0.5)
    processors = sum(rates.send_seconds + rates.receive_seconds + rates.start_seconds for rates in (RATES, slow))
    small = processors + 2 * link.latency_seconds
    per_byte = 1 / link.bandwidth_bytes_per_second + slow.end_seconds_per_byte
    large = small + (NBYTES - SMALL_BYTES) * per_byte
    found = calibrating._link((RATES, slow), small, large, NBYTES)
    assert found.bandwidth_bytes_per_second == pytest.approx(link.bandwidth_bytes_per_second, rel=0.01)
    assert found.latency_seconds == pytest.approx(link.latency_seconds, rel=0.01)


def test_a_link_that_the_processors_hide_is_taken_for_fast() -> None:
    """What is measured is no slower than what the processors take: nothing tells the link's bandwidth."""
    per_byte = RATES.end_seconds_per_byte
    found = calibrating._link((RATES, RATES), 2e-3, 2e-3 + NBYTES * per_byte, NBYTES)
    assert found.bandwidth_bytes_per_second == pytest.approx(5 / per_byte, rel=0.01)
    assert found.latency_seconds > 0


@pytest.mark.parametrize(("measured", "kept"), [(0.8e8, 1e8), (1.3e8, 1e8), (0.6e8, 0.6e8), (2e8, 2e8)])
def test_a_bandwidth_that_is_about_as_described_is_confirmed(measured: float, kept: float) -> None:
    assert calibrating._confirmed(Link(1e8, 1e-4), Link(measured, 2e-4)) == Link(kept, 2e-4)


def test_what_an_exchange_of_busy_devices_takes_beyond_its_messages_is_lateness() -> None:
    rates = {0: RATES, 1: RATES.scaled(0.5), 2: RATES}
    latencies = {way: 1e-4 * (1 + way[0]) for way in itertools.permutations(range(3), 2)}
    slowest = {0: 3e-4, 1: 3e-4, 2: 2e-4}
    told = {
        device: 2 * (own.send_seconds + own.receive_seconds) + own.start_seconds + slowest[device]
        for device, own in rates.items()
    }
    late = {device: seconds + 1e-3 * device for device, seconds in told.items()}
    assert calibrating._lateness(rates, latencies, late) == pytest.approx(1e-3)
    early = {device: seconds / 2 for device, seconds in told.items()}
    assert calibrating._lateness(rates, latencies, early) == 0.0


def test_every_pair_meets_once_and_nobody_twice_at_a_time() -> None:
    pairs = list(itertools.combinations(range(4), 2))
    matches = list(calibrating._matches(pairs))
    assert sorted(itertools.chain.from_iterable(matches)) == pairs
    assert len(matches) == 3
    for match in matches:
        assert len(set(itertools.chain.from_iterable(match))) == 2 * len(match)


def test_only_links_without_a_device_between_are_measured() -> None:
    link = Link(1e8, 1e-4)
    rates = (RATES,) * 5
    assert len(calibrating._neighbours(_cluster(rates, link))) == 10
    assert calibrating._neighbours(_cluster(rates, link, Topology.STAR)) == [(0, at) for at in range(1, 5)]
    assert calibrating._neighbours(_cluster(rates, link, Topology.RING)) == [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)]
