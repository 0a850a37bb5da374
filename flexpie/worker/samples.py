"""What some requests took on this worker: told to the master with the heartbeats, to find devices and links that have
become slower.

Times are of this machine's own clock; the master compares what both ends of a message tell.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from flexpie.wire.framing import is_sampled
from flexpie.wire.v1 import peer_pb2
from flexpie.worker.events import BatchExecuted, FrameArrived, RequestKey, SendFrame

MOST_KEPT = 64
"""Samples that nobody has asked for yet; older ones are dropped."""


@dataclass
class Samples:
    """Of the requests that the master has chosen (`flexpie.wire.framing.is_sampled`)."""

    _open: dict[RequestKey, peer_pb2.RequestSample] = field(default_factory=dict)
    _finished: deque[peer_pb2.RequestSample] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))

    def arrived(self, event: FrameArrived) -> None:
        """A message came in."""
        if is_sampled(event.key.request_id):
            sample = self._of(event.key)
            sample.received.add(
                exchange=event.exchange, other=event.source, nbytes=len(event.payload), at=time.monotonic()
            )

    def sent(self, order: SendFrame, nbytes: int) -> None:
        """A message was handed over."""
        if is_sampled(order.key.request_id):
            sample = self._of(order.key)
            sample.sent.add(exchange=order.exchange, other=order.destination, nbytes=nbytes, at=time.monotonic())

    def computed(self, event: BatchExecuted) -> None:
        """Steps were computed."""
        if is_sampled(event.key.request_id) and event.key in self._open:
            self._open[event.key].compute_seconds += event.seconds

    def ended(self, key: RequestKey, finished: bool) -> None:
        """A request has ended here; those that were answered count."""
        sample = self._open.pop(key, None)
        if sample is not None and finished:
            self._finished.append(sample)

    def take(self) -> list[peer_pb2.RequestSample]:
        """The samples since the last time."""
        taken = list(self._finished)
        self._finished.clear()
        return taken

    def _of(self, key: RequestKey) -> peer_pb2.RequestSample:
        sample = self._open.get(key)
        if sample is None:
            if len(self._open) >= MOST_KEPT:  # left by messages that came after their request's end
                del self._open[next(iter(self._open))]
            sample = self._open[key] = peer_pb2.RequestSample(
                deployment_id=key.deployment_id, request_id=key.request_id
            )
        return sample
