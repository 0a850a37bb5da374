from __future__ import annotations

import itertools

import pytest

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.routes import all_ways, groups, neighbours, ways_from


def cluster(devices: int, topology: Topology = Topology.MESH, *missing: tuple[int, int], center: int = 0) -> Cluster:
    names = [f"d{index}" for index in range(devices)]
    absent = frozenset((names[source], names[destination]) for source, destination in missing)
    described = tuple(Device(name, f"{name}:1") for name in names)
    return Cluster(described, Link(1e9, 0.0), topology, center=names[center], missing=absent)


def test_on_a_mesh_every_message_goes_straight() -> None:
    ways = all_ways(cluster(3))
    assert ways == {pair: pair for pair in itertools.permutations(range(4), 2)}  # 3 is the master


def test_on_a_ring_messages_go_the_shorter_way_around() -> None:
    ways = all_ways(cluster(5, Topology.RING))
    assert ways[0, 2] == (0, 1, 2)
    assert ways[0, 4] == (0, 4)
    assert ways[1, 4] == (1, 0, 4)
    assert ways[3, 0] == (3, 4, 0)
    assert ways[5, 3] == (5, 3)  # the master


def test_on_a_ring_the_far_side_is_reached_forward() -> None:
    ways = all_ways(cluster(6, Topology.RING))
    assert ways[1, 4] == (1, 2, 3, 4)
    assert ways[4, 1] == (4, 5, 0, 1)


def test_on_a_star_the_center_relays() -> None:
    ways = all_ways(cluster(5, Topology.STAR))
    assert ways[1, 3] == (1, 0, 3)
    assert ways[0, 3] == (0, 3)
    assert ways[3, 5] == (3, 5)
    ways = all_ways(cluster(5, Topology.STAR, center=3))
    assert ways[1, 3] == (1, 3)
    assert ways[1, 0] == (1, 3, 0)


def test_a_star_without_its_center_has_another_one() -> None:
    left = Cluster((Device("a", "a:1"), Device("b", "b:1"), Device("c", "c:1")), Link(1, 0), Topology.STAR, center="x")
    assert all_ways(left)[1, 2] == (1, 0, 2)


@pytest.mark.parametrize("topology", list(Topology))
def test_one_and_two_devices_need_no_relay(topology: Topology) -> None:
    assert all_ways(cluster(1, topology)) == {(0, 1): (0, 1), (1, 0): (1, 0)}
    assert neighbours(cluster(2, topology), 0) == (1,)
    assert neighbours(cluster(2, topology), 1) == (0,)


def test_around_a_missing_link_others_relay() -> None:
    ways = all_ways(cluster(4, Topology.MESH, (1, 3)))
    assert ways[1, 3] == (1, 2, 3)
    assert ways[3, 1] == (3, 1)
    ways = all_ways(cluster(4, Topology.RING, (1, 2)))
    assert ways[1, 2] == (1, 0, 3, 2)
    assert ways[2, 1] == (2, 1)


def test_where_no_way_leads_is_said() -> None:
    cut_off = cluster(3, Topology.STAR, (0, 2))
    assert set(ways_from(cut_off, 1)) == {0, 1}
    assert set(ways_from(cut_off, 2)) == {0, 1, 2}
    with pytest.raises(FlexPieError, match="No way leads from d0 to d2") as caught:
        all_ways(cut_off)
    assert caught.value.code is ErrorCode.INVALID_CLUSTER


def test_devices_that_reach_one_another_are_a_group() -> None:
    assert groups(cluster(4, Topology.RING)) == ((0, 1, 2, 3),)
    assert groups(cluster(3, Topology.STAR, (0, 2))) == ((0, 1), (2,))
    between = [pair for a in (0, 2) for b in (1, 3) for pair in ((a, b), (b, a))]
    assert groups(cluster(4, Topology.MESH, *between)) == ((0, 2), (1, 3))
