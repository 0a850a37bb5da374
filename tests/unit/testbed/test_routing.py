"""The testbed's network goes the ways that the planner assumes."""

from __future__ import annotations

import itertools

import pytest

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.routes import all_ways
from flexpie.testbed.routing import MASTER_ADDRESS, are_neighbours, device_address, next_hop


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("devices", [2, 3, 4, 5, 8])
def test_the_next_hop_is_the_planners(topology: Topology, devices: int) -> None:
    members = tuple(Device(f"d{index}", f"d{index}:1") for index in range(devices))
    ways = all_ways(Cluster(members, Link(1e9, 0.0), topology))
    for source, destination in itertools.permutations(range(devices), 2):
        passed = [source]
        while passed[-1] != destination:
            passed.append(next_hop(topology, devices, passed[-1], destination))
        expected = ways[source, destination]
        assert len(passed) == len(expected)
        assert tuple(passed) == expected
        assert are_neighbours(topology, devices, source, destination) == (len(expected) == 2)


def test_every_host_has_an_address_of_its_own() -> None:
    addresses = [device_address(at) for at in range(64)]
    assert len({*addresses, MASTER_ADDRESS}) == 65
