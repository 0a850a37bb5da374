"""A simulation as a timeline that chrome://tracing and https://ui.perfetto.dev show (Trace Event Format, JSON)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexpie.core.program import MASTER

if TYPE_CHECKING:
    from flexpie.core.cluster import Cluster
    from flexpie.planner.simulation import Simulation
    from flexpie.planner.timeline import Span

_THREADS = {
    "computing": "computing",
    "starting": "computing",
    "sending": "messages",
    "receiving": "messages",
    "transferring": "on the wire",
}
"""Activity → the row of a device in which it is shown."""
_ROWS = tuple(dict.fromkeys(_THREADS.values()))


def trace_events(simulation: Simulation, cluster: Cluster) -> dict[str, Any]:
    """The whole file: one process per device and one for the master, each with a row per kind of activity."""
    names = {MASTER: "master", **{index: device.name for index, device in enumerate(cluster.devices)}}
    events: list[dict[str, Any]] = []
    for end, name in names.items():
        events.append({"ph": "M", "name": "process_name", "pid": _process(end), "args": {"name": name}})
        events.append({"ph": "M", "name": "process_sort_index", "pid": _process(end),
                       "args": {"sort_index": _process(end)}})  # fmt: skip
        events += [
            {"ph": "M", "name": "thread_name", "pid": _process(end), "tid": row, "args": {"name": name}}
            for row, name in enumerate(_ROWS)
        ]
    events += map(_event, simulation.spans)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(span: Span) -> dict[str, Any]:
    activity = span.activity.value
    where = f"segment {span.segment}" if span.segment is not None else activity
    return {
        "ph": "X",
        "name": f"{where}, request {span.request}",
        "cat": activity,
        "pid": _process(span.device),
        "tid": _ROWS.index(_THREADS[activity]),
        "ts": span.start * 1e6,
        "dur": (span.stop - span.start) * 1e6,
        "args": {"activity": activity, "request": span.request},
    }


def _process(end: int) -> int:
    """Viewers want positive numbers."""
    return end - MASTER + 1
