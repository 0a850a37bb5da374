from __future__ import annotations

import itertools
import random

import pytest

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.rates import REFERENCE_RATES
from flexpie.planner.physics import PhysicsCostModel
from flexpie.traces.exchanges import sample_of, traffic_of
from flexpie.traces.patterns import LEAST_BYTES, Pattern, all_gather, draw_patterns, gather, halo, reshard, scatter
from flexpie.traces.traffic import exchange_of

DEVICES = (0, 2, 3)


def _ends(pattern: Pattern) -> set[tuple[int, int]]:
    return {(message.source, message.destination) for message in pattern.exchange}


def test_a_halo_goes_to_the_devices_before_and_behind() -> None:
    pattern = halo(DEVICES, 1000, random.Random(0))
    assert _ends(pattern) == {(0, 2), (2, 0), (2, 3), (3, 2)}
    assert {message.nbytes for message in pattern.exchange} == {1000}


@pytest.mark.parametrize("make", [all_gather, reshard])
def test_everybody_sends_to_everybody(make: object) -> None:
    assert callable(make)
    pattern = make(DEVICES, 9000, random.Random(1))
    assert _ends(pattern) == set(itertools.permutations(DEVICES, 2))
    # Nobody sends to the first device first but those behind it.
    assert [message.destination for message in pattern.exchange if message.source == 2] == [3, 0]


def test_in_a_gather_of_parts_each_device_sends_all_others_the_same() -> None:
    pattern = all_gather(DEVICES, 9000, random.Random(3))
    for device in DEVICES:
        assert len({message.nbytes for message in pattern.exchange if message.source == device}) == 1


def test_in_a_scatter_the_device_that_is_served_last_is_the_next_to_send() -> None:
    pattern = scatter(DEVICES, 3000, random.Random(0))
    assert pattern.repeats == len(pattern.round) == 3
    for now, then in itertools.pairwise((*pattern.round, pattern.round[0])):
        assert now[-1].destination == then[0].source
        assert {message.nbytes for message in now} == {1000}


def test_a_gather_is_answered_so_that_it_can_begin_again() -> None:
    pattern = gather(DEVICES, 3000, random.Random(0))
    to_center, token = pattern.round
    assert to_center == pattern.exchange
    (center,) = {message.destination for message in to_center}
    assert {message.source for message in token} == {center}
    assert {message.destination for message in token} == {message.source for message in to_center}
    assert all(len(turn) == len(token) for turn in pattern.beside)


def test_drawn_patterns_are_of_every_kind_and_size_and_the_same_again() -> None:
    drawn = list(itertools.islice(draw_patterns(4, random.Random("place")), 300))
    assert {pattern.name for pattern in drawn} == {"halo", "all_gather", "reshard", "scatter", "gather"}
    assert {len(pattern.devices) for pattern in drawn} == {2, 3, 4}
    sizes = sorted(message.nbytes for pattern in drawn if pattern.name == "halo" for message in pattern.exchange)
    assert sizes[0] >= LEAST_BYTES
    assert sizes[-1] > 100 * sizes[0]
    assert drawn == list(itertools.islice(draw_patterns(4, random.Random("place")), 300))


def test_one_device_has_nothing_to_exchange() -> None:
    assert list(draw_patterns(1, random.Random(0))) == []


@pytest.mark.parametrize("topology", list(Topology))
def test_a_sample_asks_a_cost_model_what_was_measured(topology: Topology) -> None:
    devices = tuple(Device(f"d{at}", f"d{at}:1", measured=REFERENCE_RATES.scaled(0.1 * (at + 1))) for at in range(4))
    links = {("d0", "d1"): Link(5e7, 2e-4)}
    cluster = Cluster(devices, Link(1.25e8, 1e-4), topology, links, center="d2")
    pattern = all_gather((0, 1, 3), 5000, random.Random(5))
    sample = sample_of(cluster, "here", pattern, [2e-3, 3e-3, 4e-3])
    again, nbytes = exchange_of(sample)
    assert nbytes.tolist() == traffic_of(cluster, pattern).tolist()
    predicted = float(PhysicsCostModel(again).exchange_seconds(nbytes))
    assert predicted == pytest.approx(sample.physics_seconds, rel=1e-4)
    assert (sample.seconds, sample.repeats, sample.devices) == (3e-3, 3, 3)
    assert sample.hops == (1 if topology is Topology.MESH else 2)


def test_the_configuration_tells_exchanges_apart_but_not_clusters() -> None:
    def sample(rate: float, nbytes: int) -> str:
        devices = tuple(Device(f"d{at}", f"d{at}:1", measured=REFERENCE_RATES.scaled(rate)) for at in range(2))
        pattern = halo((0, 1), nbytes, random.Random(0))
        return sample_of(Cluster(devices, Link(1e8, 1e-4)), "here", pattern, [1e-3]).configuration

    assert sample(0.2, 1000) == sample(0.5, 1000) != sample(0.2, 1001)
