"""What messages of a request took between two ends, from what both ends tell, each by a clock of its own.

What two clocks differ by is added to a message in one direction and taken away in the other, so that it is gone from
the sum of both. A pair of ends that exchange messages in one direction only (parts of the inputs, from the master to a
device that has no part of the outputs) borrows a third party: where both exchange messages with it, in both directions,
half of what these directions differ by is what the clocks differ by, as far as the two directions take the same time.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flexpie.master.events import DeviceName

Pair = frozenset[DeviceName]
"""The two ends of a link, in both directions; the master is `flexpie.core.cluster.MASTER_NAME`."""


@dataclass(frozen=True)
class Message:
    """A message of a request that both ends have told of."""

    source: DeviceName
    destination: DeviceName
    source_bytes: int
    """All that the source's port sends in the message's exchange: they share it."""
    destination_bytes: int
    """All that the destination's port receives in it."""
    seconds: float
    """From the sender's clock to the receiver's: with what the two differ by."""


@dataclass(frozen=True)
class Transit:
    """What a message takes between two ends: there and back together, or one way where there is no other."""

    seconds: float
    nbytes: Mapping[DeviceName, float]
    """By end: what passes its port meanwhile."""
    way: tuple[Pair, ...] = ()
    """Over which pairs the clocks of the ends were compared; none where the pair needed no other."""


def transits(messages: Iterable[Message]) -> dict[Pair, Transit]:
    """By pair of ends; those whose clocks cannot be compared are left out."""
    sent: dict[tuple[DeviceName, DeviceName], list[Message]] = {}
    for message in messages:
        sent.setdefault((message.source, message.destination), []).append(message)
    found = {}
    ahead: dict[DeviceName, dict[DeviceName, float]] = {}
    """By end and neighbour: by how much the neighbour's clock is ahead."""
    for (source, destination), there in sent.items():
        back = sent.get((destination, source))
        if back and source < destination:
            found[frozenset((source, destination))] = _both_ways(there, back)
            difference = (_mean_seconds(there) - _mean_seconds(back)) / 2
            ahead.setdefault(source, {})[destination] = difference
            ahead.setdefault(destination, {})[source] = -difference
    for (source, destination), there in sent.items():
        if (destination, source) not in sent and (stops := _way(ahead, source, destination)):
            hops = list(itertools.pairwise(stops))
            clocks = sum(ahead[here][then] for here, then in hops)
            nbytes = _bytes(there, source, destination)
            way = tuple(frozenset(hop) for hop in hops)
            found[frozenset((source, destination))] = Transit(_mean_seconds(there) - clocks, nbytes, way)
    return found


def _both_ways(there: Sequence[Message], back: Sequence[Message]) -> Transit:
    source, destination = there[0].source, there[0].destination
    sums = _bytes(there, source, destination), _bytes(back, destination, source)
    nbytes = {end: sums[0][end] + sums[1][end] for end in (source, destination)}
    return Transit(_mean_seconds(there) + _mean_seconds(back), nbytes)


def _mean_seconds(messages: Sequence[Message]) -> float:
    return statistics.fmean(message.seconds for message in messages)


def _bytes(messages: Sequence[Message], source: DeviceName, destination: DeviceName) -> dict[DeviceName, float]:
    return {
        source: statistics.fmean(message.source_bytes for message in messages),
        destination: statistics.fmean(message.destination_bytes for message in messages),
    }


def _way(
    neighbours: Mapping[DeviceName, Mapping[DeviceName, float]], source: DeviceName, destination: DeviceName
) -> tuple[DeviceName, ...]:
    """The shortest way, the first one in the order of names among several; empty where there is none."""
    seen = {source}
    waiting: deque[tuple[DeviceName, ...]] = deque([(source,)])
    while waiting:
        stops = waiting.popleft()
        if stops[-1] == destination:
            return stops
        for then in sorted(neighbours.get(stops[-1], ())):
            if then not in seen:
                seen.add(then)
                waiting.append((*stops, then))
    return ()
