"""The ways that messages take between the devices of a cluster: who relays for whom.

The planner charges them, the compiler makes devices relay, and the testbed lays its cables for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.errors import ErrorCode, FlexPieError


def center_of(cluster: Cluster) -> int:
    """Index of the device in the middle of a star."""
    names = [device.name for device in cluster.devices]
    return names.index(cluster.center) if cluster.center in names else 0


def neighbours(cluster: Cluster, device: int) -> tuple[int, ...]:
    """Indices of the devices that a device sends to without another one between, beginning behind it in the order
    of the cluster file.

    On a mesh these are all, on a ring the next and the last one, on a star the center; but none over a missing link.
    """
    count, center = len(cluster.devices), center_of(cluster)
    ahead = [(device + hop) % count for hop in range(1, count)]
    if cluster.topology is Topology.RING:
        ahead = list(dict.fromkeys((*ahead[:1], *ahead[-1:])))
    elif cluster.topology is Topology.STAR and device != center:
        ahead = [center]
    name = cluster.devices[device].name
    return tuple(other for other in ahead if (name, cluster.devices[other].name) not in cluster.missing)


def ways_from(cluster: Cluster, source: int) -> Mapping[int, tuple[int, ...]]:
    """The devices that a message passes on its way to each device, its two ends included; none for a device that
    nothing leads to.

    A way has as few hops as possible. Of two with equally many (to the other side of a ring) it is the one that
    begins with the earlier of the `neighbours`.
    """
    ways: dict[int, tuple[int, ...]] = {source: (source,)}
    waiting = deque([source])
    while waiting and len(ways) < len(cluster.devices):
        passed = ways[waiting.popleft()]
        for neighbour in neighbours(cluster, passed[-1]):
            if neighbour not in ways:
                ways[neighbour] = (*passed, neighbour)
                waiting.append(neighbour)
    return ways


def all_ways(cluster: Cluster) -> Mapping[tuple[int, int], tuple[int, ...]]:
    """By source and destination: the ends that a message passes, its own two included. Index n, behind the n devices,
    is the master, which every device reaches directly.

    Raises FlexPieError(INVALID_CLUSTER) where no way leads from a device to another.
    """
    names = tuple(device.name for device in cluster.devices)
    return _all_ways(names, cluster.topology, cluster.center, cluster.missing)


@lru_cache(maxsize=16)  # every plan that is evaluated asks for those of its cluster
def _all_ways(
    names: tuple[str, ...], topology: Topology, center: str | None, missing: frozenset[tuple[str, str]]
) -> Mapping[tuple[int, int], tuple[int, ...]]:
    devices = tuple(Device(name, "") for name in names)
    cluster = Cluster(devices, Link(1.0, 0.0), topology, center=center, missing=missing)
    master = len(names)
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for source in range(master):
        ways = ways_from(cluster, source)
        for destination in range(master):
            if destination not in ways:
                raise FlexPieError(
                    ErrorCode.INVALID_CLUSTER,
                    f"No way leads from {names[source]} to {names[destination]}.",
                    "Take devices that reach one another, or give the cluster a link between them.",
                )
            if source != destination:
                found[source, destination] = ways[destination]
        found[source, master], found[master, source] = (source, master), (master, source)
    return MappingProxyType(found)


def relayed_ways(cluster: Cluster) -> tuple[tuple[int, ...], ...]:
    """The ways with devices between their two ends. Raises as `all_ways` does."""
    return tuple(stops for stops in all_ways(cluster).values() if len(stops) > 2)


def groups(cluster: Cluster) -> tuple[tuple[int, ...], ...]:
    """The devices in groups within which each reaches every other; the group of the first device first.

    Ways may lead through devices of the same group only. A usable cluster is one group.
    """
    reached = [frozenset(ways_from(cluster, source)) for source in range(len(cluster.devices))]
    found: dict[tuple[int, ...], None] = {}
    for device, others in enumerate(reached):
        found[tuple(other for other in sorted(others) if device in reached[other])] = None
    return tuple(found)
