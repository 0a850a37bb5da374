"""A request's trace as a timeline that https://ui.perfetto.dev and chrome://tracing show (Trace Event Format, JSON)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flexpie.client.types import RequestTrace, TraceSpan

_ROWS: Mapping[str, int] = {"computing": 0, "assembling": 0, "sending": 1, "receiving": 1}
"""Activity → the row of a device in which it is shown."""
_NAMES = ("computing", "messages")
_CLIENT = 1
"""Process number of the client; devices follow."""


def timeline(trace: RequestTrace, client: tuple[float, float] | None = None) -> dict[str, Any]:
    """The whole file: one process for each device, with a row for computing and one for messages.

    Times begin with the client's request, or else with the first span.

    Parameters
    ----------
    client: when the client began to ask and had its answer, in seconds of ``time.monotonic``, where it is on the same
        machine as the devices; it gets a process of its own.
    """
    zero = client[0] if client else min((span.start for spans in trace.spans.values() for span in spans), default=0.0)
    events: list[dict[str, Any]] = []
    if client is not None:
        events += _header(_CLIENT, "client", ("request",))
        events.append(_complete(_CLIENT, 0, "request", "request", 0.0, client[1] - client[0], {}))
    for number, (device, spans) in enumerate(sorted(trace.spans.items()), _CLIENT + 1):
        events += _header(number, device, _NAMES)
        events += [_event(number, span, zero) for span in spans]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _header(process: int, name: str, rows: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}}
    for row, title in enumerate(rows):
        yield {"ph": "M", "name": "thread_name", "pid": process, "tid": row, "args": {"name": title}}


def _event(process: int, span: TraceSpan, zero: float) -> dict[str, Any]:
    messages = span.activity in {"sending", "receiving"}
    name = f"{span.activity} {span.what}" if messages or span.activity == "assembling" else span.what
    arguments = {"activity": span.activity, **({"bytes": span.payload_bytes} if messages else {})}
    row, start = _ROWS.get(span.activity, 0), span.start - zero
    if span.stop > span.start:
        return _complete(process, row, name, span.activity, start, span.stop - span.start, arguments)
    return {"ph": "i", "s": "t", "name": name, "cat": span.activity, "pid": process, "tid": row, "ts": start * 1e6,
            "args": arguments}  # fmt: skip


def _complete(
    process: int, row: int, name: str, category: str, start: float, seconds: float, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": category, "pid": process, "tid": row, "ts": start * 1e6,
            "dur": seconds * 1e6, "args": arguments}  # fmt: skip
