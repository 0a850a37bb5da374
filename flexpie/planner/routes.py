"""Which ports and processors the bytes of an exchange pass, as linear maps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from flexpie.core.cluster import Cluster, Topology
from flexpie.planner.cost import Array


@dataclass(frozen=True)
class Load:
    """What an exchange asks of each device and (last) of the master; arrays of shape [..., n + 1]."""

    sent: Array
    """Messages, relayed ones included."""
    received: Array
    handled_bytes: Array
    """Bytes that pass the processor: sent plus received."""
    outgoing_seconds: Array
    """Of the port, for sending."""
    incoming_seconds: Array
    latency_seconds: Array
    """Of the longest way that is used; shape [...]."""


class Routes:
    """The ways through a cluster's network.

    On a mesh every message goes straight; on a ring it is relayed by the devices on the shorter way around (in the
    order of the cluster file); on a star all go through the first device. The master reaches every device directly.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._ends = len(cluster.devices) + 1
        pairs = self._ends**2
        self._sends, self._receives = np.zeros((pairs, self._ends)), np.zeros((pairs, self._ends))
        self._out_seconds, self._in_seconds = np.zeros((pairs, self._ends)), np.zeros((pairs, self._ends))
        self._latency = np.zeros(pairs)
        for source in range(self._ends):
            for destination in range(self._ends):
                if source != destination:
                    self._add_way(cluster, source, destination)

    def _add_way(self, cluster: Cluster, source: int, destination: int) -> None:
        pair = source * self._ends + destination
        names = [*(device.name for device in cluster.devices), "master"]
        stops = way(cluster.topology, len(cluster.devices), source, destination)
        for start, end in itertools.pairwise(stops):
            with_master = self._ends - 1 in (start, end)
            link = cluster.link if with_master else cluster.between(names[start], names[end])
            self._sends[pair, start] += 1
            self._receives[pair, end] += 1
            self._out_seconds[pair, start] += 1 / link.bandwidth_bytes_per_second
            self._in_seconds[pair, end] += 1 / link.bandwidth_bytes_per_second
            self._latency[pair] += link.latency_seconds

    def load(self, nbytes: Array) -> Load:
        """The load of exchanges; `nbytes` has shape [..., n + 1, n + 1]."""
        flat = nbytes.reshape(*nbytes.shape[:-2], self._ends**2)
        used = (flat > 0).astype(np.float64)
        return Load(
            sent=used @ self._sends,
            received=used @ self._receives,
            handled_bytes=flat @ (self._sends + self._receives),
            outgoing_seconds=flat @ self._out_seconds,
            incoming_seconds=flat @ self._in_seconds,
            latency_seconds=(used * self._latency).max(axis=-1),
        )


def way(topology: Topology, devices: int, source: int, destination: int) -> list[int]:
    """The ends that a message passes, its own two included; index `devices` is the master."""
    if topology is Topology.MESH or devices in (source, destination):
        return [source, destination]
    if topology is Topology.STAR:
        return [source, destination] if 0 in (source, destination) else [source, 0, destination]
    forward = (destination - source) % devices
    step = 1 if forward <= devices - forward else -1
    return [(source + step * hop) % devices for hop in range(min(forward, devices - forward) + 1)]
