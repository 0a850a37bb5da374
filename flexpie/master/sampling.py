"""Samples of requests, put together from what the master and the workers tell of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.cluster import MASTER_NAME
from flexpie.core.program import MASTER
from flexpie.master.drift import Sample
from flexpie.master.events import DeploymentId, DeviceName
from flexpie.master.transit import Message
from flexpie.wire.v1 import peer_pb2

MOST_OPEN = 256
"""Samples that are not complete; a worker that was lost never tells its part."""

_Slot = tuple[int, DeviceName, DeviceName]
"""Exchange, source and destination of a message."""


@dataclass
class _Parts:
    """What was told of one request so far."""

    devices: tuple[DeviceName, ...]
    """By index."""
    missing: set[DeviceName]
    """Who has not told yet."""
    compute: dict[DeviceName, float] = field(default_factory=dict)
    sent: dict[_Slot, tuple[float, int]] = field(default_factory=dict)
    """Time and bytes of each message."""
    received: dict[_Slot, float] = field(default_factory=dict)


class SampleBook:
    """The samples of one master that are not complete yet."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[DeploymentId, int], _Parts] = OrderedDict()

    def begin(
        self, deployment: DeploymentId, run: int, devices: tuple[DeviceName, ...], needed: set[DeviceName]
    ) -> None:
        """A run begins that all devices that it needs will tell of; so will the master."""
        self._open[deployment, run] = _Parts(devices, {*needed, MASTER_NAME})
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def tell(self, teller: DeviceName, part: peer_pb2.RequestSample) -> Sample | None:
        """A device, or the master, tells of a run; returns the sample when it is complete."""
        key = part.deployment_id, part.request_id
        parts = self._open.get(key)
        if parts is None or teller not in parts.missing:
            return None
        parts.missing.remove(teller)
        if teller != MASTER_NAME:
            parts.compute[teller] = part.compute_seconds
        for message in part.sent:
            parts.sent[message.exchange, teller, _name(parts, message.other)] = message.at, message.nbytes
        for message in part.received:
            parts.received[message.exchange, _name(parts, message.other), teller] = message.at
        if parts.missing:
            return None
        del self._open[key]
        return Sample(parts.compute, _messages(parts.sent, parts.received))


def _name(parts: _Parts, index: int) -> DeviceName:
    return MASTER_NAME if index == MASTER or index >= len(parts.devices) else parts.devices[index]


def _messages(sent: Mapping[_Slot, tuple[float, int]], received: Mapping[_Slot, float]) -> tuple[Message, ...]:
    """Messages that both ends have told of; those of one exchange share the ports at their ends."""
    outgoing: dict[tuple[int, DeviceName], int] = {}
    incoming: dict[tuple[int, DeviceName], int] = {}
    for (exchange, source, destination), (_, nbytes) in sent.items():
        outgoing[exchange, source] = outgoing.get((exchange, source), 0) + nbytes
        incoming[exchange, destination] = incoming.get((exchange, destination), 0) + nbytes
    return tuple(
        Message(source, destination, outgoing[exchange, source], incoming[exchange, destination],
                received[exchange, source, destination] - at)
        for (exchange, source, destination), (at, _) in sent.items()
        if (exchange, source, destination) in received
    )  # fmt: skip
