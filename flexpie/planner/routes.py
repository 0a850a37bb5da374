"""Which ports and processors the bytes of an exchange pass, as linear maps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.cluster import Cluster, Link
from flexpie.core.routes import all_ways
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
    """What the ways through a cluster's network (`flexpie.core.routes`) ask of the ends that lie on them.

    Every device must reach every other. The master reaches every device directly, and they reach it. Each pair of
    ends is charged as if it shared no message with another: what is relayed to several devices at once costs less.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._ends = len(cluster.devices) + 1
        pairs = self._ends**2
        self._sends, self._receives = np.zeros((pairs, self._ends)), np.zeros((pairs, self._ends))
        self._out_seconds, self._in_seconds = np.zeros((pairs, self._ends)), np.zeros((pairs, self._ends))
        self._latency = np.zeros(pairs)
        for (source, destination), stops in all_ways(cluster).items():
            self._add_way(cluster, source * self._ends + destination, stops)

    def _add_way(self, cluster: Cluster, pair: int, stops: Sequence[int]) -> None:
        for start, end in itertools.pairwise(stops):
            link = link_between(cluster, start, end)
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


def link_between(cluster: Cluster, source: int, destination: int) -> Link:
    """The link from one end to another: each the index of a device, or any other number for the master."""
    devices = range(len(cluster.devices))
    if source not in devices or destination not in devices:
        return cluster.link
    return cluster.between(cluster.devices[source].name, cluster.devices[destination].name)
