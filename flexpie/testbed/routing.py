"""Addresses, and the neighbour over which a device reaches another one."""

from __future__ import annotations

from flexpie.core.cluster import Topology

PREFIX_LENGTH = 24
MASTER_ADDRESS = "10.77.0.254"
WORKER_PORT = 50051
MASTER_PORT = 50050


def device_address(index: int) -> str:
    """IPv4 address of a device. Every testbed has these: each lives in namespaces of its own."""
    return f"10.77.0.{index + 1}"


def next_hop(topology: Topology, devices: int, source: int, destination: int) -> int:
    """The device to which `source` hands a message for `destination`; the same way as `flexpie.core.routes`."""
    if topology is Topology.STAR and 0 not in (source, destination):
        return 0
    if topology is Topology.RING:
        forward = (destination - source) % devices
        return (source + (1 if forward <= devices - forward else -1)) % devices
    return destination


def are_neighbours(topology: Topology, devices: int, first: int, second: int) -> bool:
    """Whether two devices exchange messages without another device between."""
    return next_hop(topology, devices, first, second) == second
