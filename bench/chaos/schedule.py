"""Which fault comes when: drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from flexpie.testbed import MASTER

INTERVAL_SECONDS = 3.0
"""Mean time between two faults."""
MOST_LOST = 2
"""Devices that may be without use at once: with all of them gone there is nothing to test."""


class Kind(enum.Enum):
    """What goes wrong."""

    KILL = "kill -9"
    """A worker ends without a word, and is started again."""
    STOP = "stop"
    """A worker hangs (SIGSTOP), and goes on (SIGCONT)."""
    UNPLUG = "link cut"
    """A device's cable is pulled: nobody reaches it, and it reaches nobody."""
    CUT = "pair cut"
    """Two devices do not reach each other; all others reach both."""
    ONE_WAY = "one-way cut"
    """What one host sends to another one is lost; the other direction works."""
    SLOW = "tenth of the bandwidth"
    """A host's port has a tenth of its bandwidth."""
    MASTER_KILL = "master kill -9"
    """The master ends without a word, and is started again."""
    CLOCK = "clock jump"
    """A daemon's wall clock jumps, by seconds or by days, forwards or backwards; it stays there."""


LASTING_SECONDS = {
    Kind.KILL: (0.5, 5.0),
    Kind.STOP: (0.2, 5.0),
    Kind.UNPLUG: (0.5, 6.0),
    Kind.CUT: (0.5, 6.0),
    Kind.ONE_WAY: (0.5, 6.0),
    Kind.SLOW: (2.0, 8.0),
    Kind.MASTER_KILL: (0.0, 1.0),
    Kind.CLOCK: (0.0, 0.0),
}
"""Shortest and longest time until a fault is mended."""
_LOSING = {Kind.KILL, Kind.STOP, Kind.UNPLUG}
_JUMPS = (-7 * 86400.0, -3600.0, -30.0, 30.0, 3600.0, 7 * 86400.0)
_TRIES = 20
"""To find a host that a fault can come to, before it is left out."""
_SETTLING_SECONDS = 2.0
"""How long a host has peace after a fault was mended: a worker takes a moment to start."""


@dataclass(frozen=True)
class Fault:
    """One fault, at a time of the run."""

    kind: Kind
    at: float
    """Seconds after the beginning."""
    seconds: float
    """How long it lasts."""
    host: str
    """A device, or the master's host; what a cut link leads from."""
    other: str = ""
    """What a cut link leads to."""
    jump_seconds: float = 0.0
    """Of a clock."""

    @property
    def until(self) -> float:
        """When it is mended."""
        return self.at + self.seconds

    def __str__(self) -> str:
        where = f"{self.host} {'↔' if self.kind is Kind.CUT else '→'} {self.other}" if self.other else self.host
        return f"{self.kind.value}: {where}" + (f" by {self.jump_seconds:+g} s" if self.jump_seconds else "")


def draw_schedule(
    seed: int, seconds: float, devices: Sequence[str], kinds: Sequence[Kind] = tuple(Kind)
) -> tuple[Fault, ...]:
    """Faults of these kinds for a run of that length, in their order; all are mended when it ends.

    No host has two faults at once, and never are more than `MOST_LOST` devices without use.
    """
    generator = random.Random(seed)
    faults: list[Fault] = []
    bag: list[Kind] = []
    now = generator.uniform(0.5, 1.0) * INTERVAL_SECONDS
    while now < seconds:
        if not bag:
            bag = generator.sample(list(kinds), len(kinds))  # each kind once, before any comes again
        kind = bag.pop()
        drawn = (_draw(generator, kind, now, devices) for _ in range(_TRIES))
        faults += islice((fault for fault in drawn if fault.until < seconds and _bearable(fault, faults)), 1)
        now += generator.uniform(0.5, 1.5) * INTERVAL_SECONDS
    return tuple(faults)


def _draw(generator: random.Random, kind: Kind, at: float, devices: Sequence[str]) -> Fault:
    lasting = generator.uniform(*LASTING_SECONDS[kind])
    hosts = (*devices, MASTER)
    match kind:
        case Kind.MASTER_KILL:
            return Fault(kind, at, lasting, MASTER)
        case Kind.CUT:
            first, second = generator.sample(list(devices), 2)
            return Fault(kind, at, lasting, first, second)
        case Kind.ONE_WAY:
            first, second = generator.sample(hosts, 2)
            return Fault(kind, at, lasting, first, second)
        case Kind.SLOW:
            return Fault(kind, at, lasting, generator.choice(hosts))
        case Kind.CLOCK:
            return Fault(kind, at, lasting, generator.choice(hosts), jump_seconds=generator.choice(_JUMPS))
        case _:
            return Fault(kind, at, lasting, generator.choice(list(devices)))


def _bearable(fault: Fault, before: Sequence[Fault]) -> bool:
    going_on = [other for other in before if other.until + _SETTLING_SECONDS > fault.at]
    if any(set(_hosts(fault)) & set(_hosts(other)) for other in going_on):
        return False
    lost = {other.host for other in going_on if other.kind in _LOSING}
    return fault.kind not in _LOSING or len(lost) < MOST_LOST


def _hosts(fault: Fault) -> Iterator[str]:
    yield fault.host
    if fault.other:
        yield fault.other
