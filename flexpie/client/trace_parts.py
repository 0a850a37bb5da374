"""Each device tells its part of a request on its own; here the parts come together."""

from __future__ import annotations

from flexpie.client.types import RequestTrace, TraceSpan, spans_from_proto
from flexpie.wire.v1 import master_pb2


class TraceParts:
    """Parts of traces that are not complete yet."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[str, tuple[TraceSpan, ...]]] = {}

    def add(self, reply: master_pb2.TraceModelReply) -> RequestTrace | None:
        """Take in a part; returns the trace that it completes."""
        number = reply.trace.request_id
        parts = self._parts.setdefault(number, {})
        parts[reply.device] = spans_from_proto(reply.trace)
        return RequestTrace(number, self._parts.pop(number)) if parts.keys() == set(reply.devices) else None
