"""Messages: how the copies of an exchange travel, relayed where the network has no straight way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flexpie.core.exchange import Copy
from flexpie.core.program import MASTER
from flexpie.core.region import Region, subtract_all

Box = tuple[str, Region]
"""A region of a tensor."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one end sends to a neighbour at once."""

    source: int
    """Index of a device, or `MASTER`."""
    destination: int
    wanted: tuple[Box, ...]
    """Boxes that the destination needs itself."""
    passing: tuple[Box, ...] = ()
    """Boxes that it only passes on; disjoint, also from `wanted`."""

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All of them, in the order in which they are sent."""
        return self.wanted + self.passing


def message_rounds(copies: Iterable[Copy], relayed: Iterable[Sequence[int]], devices: int) -> list[list[Message]]:
    """The messages of an exchange among so many devices and the master, in rounds.

    What is sent in a round was received in the round before, but for the first, in which everybody sends what is its
    own: so nobody waits for anybody who waits for him. In a round at most one message goes from one end to another,
    and no part of a tensor is in it twice, however many devices it is for. The messages of a round are in sending
    order.

    `relayed` are the ways with devices between (see `flexpie.core.plan.Plan`).
    """
    ways = {(stops[0], stops[-1]): stops for stops in relayed}
    rounds: list[dict[tuple[int, int], list[Copy]]] = []
    for copy in copies:
        ends = (copy.source, copy.destination)
        for number, hop in enumerate(itertools.pairwise(ways.get(ends, ends))):
            if number == len(rounds):
                rounds.append({})
            rounds[number].setdefault(hop, []).append(copy)
    return [_in_sending_order([_message(*hop, found) for hop, found in hops.items()], devices) for hops in rounds]


def in_receiving_order(messages: Iterable[Message], devices: int) -> list[Message]:
    """The messages of a round in the order in which each destination takes them."""
    ends = devices + 1
    return sorted(messages, key=lambda item: (item.destination, (item.destination - item.source) % ends))


def lacks_start(sources: Sequence[int | None]) -> bool:
    """Whether a device needs an empty message of the master's to begin: it begins with its first message.

    `sources` says of each of its steps whom it waits for a message from; None for one that waits for none. A device
    that has something to do before any message comes needs one, unless the master has something for it: others may
    wait for what it does then.
    """
    return bool(sources) and sources[0] is None and MASTER not in sources


def _in_sending_order(messages: Iterable[Message], devices: int) -> list[Message]:
    """Every source begins with its next neighbour, so that not all of them send to the same device first."""
    ends = devices + 1
    return sorted(messages, key=lambda item: (item.source, (item.destination - item.source) % ends))


def _message(source: int, destination: int, copies: Sequence[Copy]) -> Message:
    wanted = tuple((copy.tensor, copy.region) for copy in copies if copy.destination == destination)
    passing: list[Box] = []
    for copy in copies:
        if copy.destination != destination:
            known = [region for name, region in (*wanted, *passing) if name == copy.tensor]
            passing += [(copy.tensor, piece) for piece in subtract_all(copy.region, known)]
    return Message(source, destination, wanted, tuple(passing))
