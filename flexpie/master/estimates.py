"""What plans assume of a cluster, corrected by what its requests show."""

from __future__ import annotations

import dataclasses

from flexpie.core.cluster import Cluster, Device, Link
from flexpie.master.drift import Drift

FASTEST_FACTOR = 10.0
"""A link is not believed to be more than so many times faster than it was said to be."""


def adjusted(cluster: Cluster, drift: Drift) -> Cluster:
    """The cluster as it is now, where `drift` says how it differs from `cluster`."""
    devices = tuple(_adjusted_device(device, drift.slowdowns.get(device.name, 1.0)) for device in cluster.devices)
    links = dict(cluster.links)
    for pair, extra in drift.extra_seconds_per_byte.items():
        first, second = sorted(pair)
        for link in ((first, second), (second, first)):
            links[link] = _adjusted_link(cluster.between(*link), extra)
    return dataclasses.replace(cluster, devices=devices, links=links)


def _adjusted_device(device: Device, slowdown: float) -> Device:
    if slowdown == 1.0:
        return device
    measured = device.measured and device.measured.scaled(1 / slowdown)  # one that was not calibrated stays so
    return dataclasses.replace(device, speed=device.speed / slowdown, measured=measured)


def _adjusted_link(link: Link, extra_seconds_per_byte: float) -> Link:
    seconds = 1 / link.bandwidth_bytes_per_second
    now = max(seconds + extra_seconds_per_byte, seconds / FASTEST_FACTOR)
    return dataclasses.replace(link, bandwidth_bytes_per_second=1 / now)
