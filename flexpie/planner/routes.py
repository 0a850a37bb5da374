"""Which ports and processors the bytes of an exchange pass."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from flexpie.core.cluster import MASTER_NAME, Cluster, Link
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
        self._straight = np.zeros((self._ends, self._ends))
        """1 for pairs of ends whose messages nobody relays."""
        self._seconds_per_byte = np.zeros((self._ends, self._ends))
        """Of these pairs' links."""
        self._latency = np.zeros((self._ends, self._ends))
        """Of the whole way."""
        relayed = []
        for (source, destination), stops in all_ways(cluster).items():
            links = [link_between(cluster, start, end) for start, end in itertools.pairwise(stops)]
            self._latency[source, destination] = sum(link.latency_seconds for link in links)
            if len(stops) == 2:
                self._straight[source, destination] = 1.0
                self._seconds_per_byte[source, destination] = 1 / links[0].bandwidth_bytes_per_second
            else:
                relayed.append((source * self._ends + destination, stops, links))
        self._relayed = np.array([pair for pair, _, _ in relayed], dtype=np.int64)
        self._sends, self._receives, self._out_seconds, self._in_seconds = np.zeros((4, len(relayed), self._ends))
        for row, (_, stops, links) in enumerate(relayed):
            for (start, end), link in zip(itertools.pairwise(stops), links, strict=True):
                self._sends[row, start] += 1
                self._receives[row, end] += 1
                self._out_seconds[row, start] += 1 / link.bandwidth_bytes_per_second
                self._in_seconds[row, end] += 1 / link.bandwidth_bytes_per_second

    def load(self, nbytes: Array) -> Load:
        """The load of exchanges; `nbytes` has shape [..., n + 1, n + 1].

        Inside, the exchanges are the last axis, as numpy is slow on short ones, and ends without any bytes are left
        out.
        """
        shape = nbytes.shape[:-2]
        moved = np.moveaxis(nbytes.reshape(-1, self._ends, self._ends), 0, -1)
        pairs = np.asarray(moved.any(axis=-1))
        ends = np.nonzero(pairs.any(axis=0) | pairs.any(axis=1))[0]
        square = np.ix_(ends, ends)
        few = moved[square]
        used = (few > 0).astype(np.float64)
        straight, seconds_per_byte = self._straight[square], self._seconds_per_byte[square]
        sent, received, handled, outgoing, incoming = np.zeros((5, self._ends, moved.shape[-1]))
        sent[ends], received[ends] = _by_source(straight, used), _by_destination(straight, used)
        handled[ends] = _by_source(straight, few) + _by_destination(straight, few)
        outgoing[ends], incoming[ends] = _by_source(seconds_per_byte, few), _by_destination(seconds_per_byte, few)
        if len(self._relayed):
            flat = moved.reshape(self._ends**2, -1)[self._relayed]
            flat_used = (flat > 0).astype(np.float64)
            sent += self._sends.T @ flat_used
            received += self._receives.T @ flat_used
            handled += (self._sends + self._receives).T @ flat
            outgoing += self._out_seconds.T @ flat
            incoming += self._in_seconds.T @ flat
        latency = (used * self._latency[square][..., None]).max(axis=(0, 1), initial=0.0)

        def per_end(values: Array) -> Array:
            return np.moveaxis(values, 0, -1).reshape(*shape, self._ends)

        return Load(
            sent=per_end(sent),
            received=per_end(received),
            handled_bytes=per_end(handled),
            outgoing_seconds=per_end(outgoing),
            incoming_seconds=per_end(incoming),
            latency_seconds=latency.reshape(shape),
        )


def _by_source(weights: Array, values: Array) -> Array:
    """Weighted sums over the destinations: [source, exchanges] from [source, destination(, exchanges)]."""
    found: Array = np.einsum("sd,sdx->sx", weights, values)
    return found


def _by_destination(weights: Array, values: Array) -> Array:
    found: Array = np.einsum("sd,sdx->dx", weights, values)
    return found


def link_between(cluster: Cluster, source: int, destination: int) -> Link:
    """The link from one end to another: each the index of a device, or any other number for the master."""
    names = dict(enumerate(device.name for device in cluster.devices))
    return cluster.between(names.get(source, MASTER_NAME), names.get(destination, MASTER_NAME))
