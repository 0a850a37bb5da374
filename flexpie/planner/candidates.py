"""The ways to divide a segment's outputs that the search chooses from."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from flexpie.core.cluster import MASTER_NAME, Cluster
from flexpie.core.scheme import REPLICATED, SPLITTING, Scheme, single

PORT_STEP = 2.0
"""Links that differ by much less than this factor are as fast as one another."""
Shares = tuple[float, ...]
MOST_LISTED = 8
"""Devices up to which every number of the fastest ones is a choice, and each one alone."""
Candidate = tuple[Scheme, Shares]
"""A scheme with the weight of each device."""


def proportional_shares(cluster: Cluster) -> Shares:
    """Weights in proportion to the devices' speeds; the fastest has 1."""
    top = max(device.speed for device in cluster.devices)
    return tuple(device.speed / top for device in cluster.devices)


def share_choices(cluster: Cluster, without: frozenset[int] = frozenset()) -> tuple[Shares, ...]:
    """Weights of the devices to choose from: the fastest k for every k ≥ 2, all in proportion to speed, all equal. Of
    more than `MOST_LISTED` devices the fastest 2, 4, 8 and so on, and all. Where some devices have slower links than
    others, also the k with the fastest links.

    Fewer devices come first, so that of two equal divisions the one without idle devices gives the name. Devices of
    `without` get nothing. Proportional choices give exactly the same number to devices of equal speed.
    """
    speeds = [0.0 if index in without else device.speed for index, device in enumerate(cluster.devices)]
    fastest = sorted((index for index in range(len(speeds)) if speeds[index] > 0), key=lambda i: (-speeds[i], i))
    rankings = [fastest]
    if (slowness := _port_slowness(cluster)) and len({slowness[index] for index in fastest}) > 1:
        rankings.append(sorted(fastest, key=lambda index: slowness[index]))
    found: dict[Shares, None] = {}
    for count, ranked in itertools.product(_counts(len(fastest)), rankings):
        chosen = set(ranked[:count])
        for weights in (speeds, [1.0] * len(speeds)) if count == len(ranked) else (speeds,):
            kept = [weight if index in chosen else 0.0 for index, weight in enumerate(weights)]
            top = max(kept)
            found[tuple(weight / top for weight in kept)] = None
    return tuple(found)


def _port_slowness(cluster: Cluster) -> list[int]:
    """How slow each device's links are, in steps of `PORT_STEP`, from 0; empty where nothing is told of any link. The
    links are judged by their median: one to a slow device says little of this one."""
    if not cluster.links:
        return []
    ends = [MASTER_NAME, *(device.name for device in cluster.devices)]
    seconds = [
        statistics.median(
            1 / cluster.between(*link).bandwidth_bytes_per_second
            for end in ends
            if end != device.name
            for link in ((device.name, end), (end, device.name))
        )
        for device in cluster.devices
    ]
    least = min(seconds)
    return [round(math.log(value / least, PORT_STEP)) for value in seconds]


def _counts(devices: int) -> list[int]:
    if devices <= MOST_LISTED:
        return list(range(2, devices + 1))
    return [*(1 << power for power in range(1, (devices - 1).bit_length())), devices]


def all_candidates(devices: int, shares: Sequence[Shares], schemes: Sequence[Scheme] = SPLITTING) -> list[Candidate]:
    """Each device alone, every scheme with every choice of shares, and every set of devices replicated. Of more than
    `MOST_LISTED` devices, those alone that take part in a choice of no more than these.

    Where two of them divide a tensor in the same way, the earlier one gives the name.
    """
    found: dict[Candidate, None] = {}
    few = [choice for choice in shares if sum(weight > 0 for weight in choice) <= MOST_LISTED]
    for device in range(devices):
        if devices > MOST_LISTED and not any(choice[device] > 0 for choice in few):
            continue
        found[single(device), tuple(float(index == device) for index in range(devices))] = None
    found |= {(scheme, choice): None for scheme in schemes for choice in shares}
    for choice in shares:
        found[REPLICATED, tuple(float(weight > 0) for weight in choice)] = None
    return list(found)
