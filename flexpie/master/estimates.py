"""What plans assume of a cluster, corrected by what its requests show."""

from __future__ import annotations

import dataclasses

from flexpie.core.cluster import MASTER_NAME, Cluster, Device, Link
from flexpie.master.drift import Drift
from flexpie.master.transit import Pair

FASTEST_FACTOR = 10.0
"""A link is not believed to be more than so many times faster than it was said to be."""


def adjusted(cluster: Cluster, drift: Drift, since: Cluster | None = None) -> Cluster:
    """The cluster as it is now, where `drift` says how it differs from what it was: from `since`, which may lack
    devices that have no part in it. What has not drifted is as in `cluster`."""
    since = since or cluster
    before = {device.name: device for device in since.devices}
    devices = []
    for device in cluster.devices:
        if (slowdown := drift.slowdowns.get(device.name)) is not None:
            device = _as_fast_as(device, before[device.name], slowdown)
        devices.append(device)
    links = dict(cluster.links)
    for pair, extra in _extra_by_pair(cluster, drift).items():
        first, second = sorted(pair)
        for link in ((first, second), (second, first)):
            links[link] = _adjusted_link(since.between(*link), extra)
    return dataclasses.replace(cluster, devices=tuple(devices), links=links)


def _extra_by_pair(cluster: Cluster, drift: Drift) -> dict[Pair, float]:
    """What drift tells of links and of ports, by link; of two ports at its ends the one that differs more counts."""
    extra = dict(drift.extra_seconds_per_byte)
    ends = (MASTER_NAME, *(device.name for device in cluster.devices))
    for port, seconds in sorted(drift.ports.items(), key=lambda item: abs(item[1])):
        extra |= {frozenset((port, end)): seconds for end in ends if end != port}
    return extra


def _as_fast_as(device: Device, before: Device, slowdown: float) -> Device:
    measured = before.measured and before.measured.scaled(1 / slowdown)  # one that was not calibrated stays so
    return dataclasses.replace(device, speed=before.speed / slowdown, measured=measured)


def _adjusted_link(link: Link, extra_seconds_per_byte: float) -> Link:
    seconds = 1 / link.bandwidth_bytes_per_second
    now = max(seconds + extra_seconds_per_byte, seconds / FASTEST_FACTOR)
    return dataclasses.replace(link, bandwidth_bytes_per_second=1 / now)
