"""Exchanges drawn at random, as they occur between segments: who sends how much to whom. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flexpie.traces.programs import Exchange, Message

LEAST_BYTES, MOST_BYTES = 1_000, 4_000_000
"""Of what one device sends in an exchange."""
TOKEN_BYTES = 64
"""Of a message that only says that something is done."""


@dataclass(frozen=True)
class Pattern:
    """An exchange to be measured, and how it is made to happen again and again."""

    name: str
    """``halo``, ``all_gather``, ``reshard``, ``scatter`` or ``gather``."""
    exchange: Exchange
    round: tuple[Exchange, ...]
    """What a round consists of."""
    repeats: int
    """How often the exchange, or one that takes equally long, is in a round."""
    beside: tuple[Exchange, ...] = ()
    """Exchanges that each take as long as what else is in a round; to be measured apart."""

    @property
    def devices(self) -> tuple[int, ...]:
        """Indices of those that take part, ascending."""
        return tuple(sorted({end for message in self.exchange for end in (message.source, message.destination)}))


def draw_patterns(devices: int, rng: random.Random, most_bytes: int = MOST_BYTES) -> Iterator[Pattern]:
    """Patterns without end among 2 to `devices` devices, in sizes from `LEAST_BYTES` to `most_bytes`.

    On one device there is nothing to draw.
    """
    makers = (halo, all_gather, reshard, scatter, gather)
    while devices > 1:
        chosen = sorted(rng.sample(range(devices), rng.randint(2, devices)))
        nbytes = round(math.exp(rng.uniform(math.log(LEAST_BYTES), math.log(most_bytes))))
        yield rng.choice(makers)(chosen, nbytes, rng)


def halo(devices: Sequence[int], nbytes: int, rng: random.Random) -> Pattern:
    """Each device sends rows to those before and behind it in the image."""
    pairs = itertools.pairwise(devices)
    ends = [pair for first, second in pairs for pair in ((first, second), (second, first))]
    exchange = tuple(Message(source, destination, nbytes) for source, destination in ends)
    return Pattern("halo", exchange, (exchange,), 1)


def all_gather(devices: Sequence[int], nbytes: int, rng: random.Random) -> Pattern:
    """Each device sends its part to all others; parts may be unequal."""
    parts = {
        device: max(1, round(nbytes * weight)) for device, weight in zip(devices, _weights(devices, rng), strict=True)
    }
    exchange = tuple(Message(source, other, parts[source]) for source in devices for other in _others(devices, source))
    return Pattern("all_gather", exchange, (exchange,), 1)


def reshard(devices: Sequence[int], nbytes: int, rng: random.Random) -> Pattern:
    """Each device keeps a part of what it has and sends a part to each other one, as when rows become channels."""
    exchange = tuple(
        Message(source, other, max(1, round(nbytes * weight / len(devices))))
        for source in devices
        for other, weight in zip(_others(devices, source), _weights(devices[1:], rng), strict=True)
    )
    return Pattern("reshard", exchange, (exchange,), 1)


def scatter(devices: Sequence[int], nbytes: int, rng: random.Random) -> Pattern:
    """One device sends a part to each other one.

    Each is that device in turn, the one that is served last being the next: so a round lasts until all are served.
    """
    part = max(1, nbytes // len(devices))
    turns = tuple(
        tuple(Message(source, other, part) for other in _others(devices, source)) for source in reversed(devices)
    )
    return Pattern("scatter", turns[-1], turns, len(turns))


def gather(devices: Sequence[int], nbytes: int, rng: random.Random) -> Pattern:
    """All devices send their parts to one, which then tells them to begin again."""
    part = max(1, nbytes // len(devices))
    center = rng.choice(devices)
    others = _others(devices, center)
    exchange = tuple(Message(other, center, part) for other in others)
    token = tuple(Message(center, other, TOKEN_BYTES) for other in others)
    turns = tuple(
        tuple(Message(source, other, TOKEN_BYTES) for other in _others(devices, source)) for source in reversed(devices)
    )
    return Pattern("gather", exchange, (exchange, token), 1, turns)


def _others(devices: Sequence[int], source: int) -> list[int]:
    """All others, beginning behind the source, so that not all devices send to the same one first."""
    at = list(devices).index(source)
    return [*devices[at + 1 :], *devices[:at]]


def _weights(devices: Sequence[int], rng: random.Random) -> list[float]:
    """Relative sizes with a mean of 1: equal ones half of the time, since devices often are."""
    if rng.random() < 0.5:
        return [1.0] * len(devices)
    drawn = [rng.uniform(0.2, 1.8) for _ in devices]
    return [weight * len(drawn) / sum(drawn) for weight in drawn]
