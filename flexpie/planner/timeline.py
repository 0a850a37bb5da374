"""What ends of a cluster do when: spans of time, and their sums."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Activity(enum.Enum):
    """What an end does in a span of time."""

    COMPUTING = "computing"
    STARTING = "starting"
    """Waking up with the last message, assembling inputs, starting a subgraph."""
    SENDING = "sending"
    """The processor's part of it."""
    RECEIVING = "receiving"
    """The processor's part of it."""
    TRANSFERRING = "transferring"
    """A message of this end is on the wire."""


@dataclass(frozen=True, slots=True)
class Span:
    """Something that an end does; seconds since the first request began."""

    device: int
    """Index, or `flexpie.core.program.MASTER`."""
    activity: Activity
    segment: int | None
    """That is computed; None for messages."""
    request: int
    start: float
    stop: float
    """Later than `start` by more than the work itself where messages were handled in between."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """What a device does with the time from the end of its segment before to the end of this one; seconds."""

    computing: float = 0.0
    waiting: float = 0.0
    """For messages, or for the processor while it works for another request."""
    sending: float = 0.0
    """Of the processor, for messages: sending, receiving, relaying, starting with what came."""

    def __add__(self, other: DeviceTime) -> DeviceTime:
        return DeviceTime(self.computing + other.computing, self.waiting + other.waiting, self.sending + other.sending)

    def __mul__(self, factor: float) -> DeviceTime:
        return DeviceTime(self.computing * factor, self.waiting * factor, self.sending * factor)
