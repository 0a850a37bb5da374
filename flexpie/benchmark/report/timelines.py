"""One inference over all devices: a picture, and a file for Perfetto."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flexpie.benchmark.cells import OURS
from flexpie.benchmark.records import Traced
from flexpie.benchmark.summary import CellResult
from flexpie.client.timelines import timeline
from flexpie.client.types import RequestTrace

_COLOURS = {"computing": "#d62728", "assembling": "#ff9f40", "sending": "#1f77b4", "receiving": "#2ca02c"}


def traced_cell(results: Sequence[CellResult]) -> CellResult | None:
    """The first cell whose trace has several devices; one that counts if there is any."""
    fitting = [item for item in results if OURS in item.traced and len(item.traced[OURS].spans) > 1]
    return next((item for item in fitting if item.counts), fitting[0] if fitting else None)


def perfetto(trace: Traced) -> dict[str, Any]:
    """The file."""
    return timeline(RequestTrace(0, trace.spans), trace.client)


def timeline_picture(item: CellResult) -> Figure:
    """Each device's computing and messages over time."""
    trace = item.traced[OURS]
    zero, ended = trace.client
    devices = sorted(trace.spans)
    figure = Figure(figsize=(12, 0.9 + 0.7 * len(devices)), layout="constrained")
    axes = figure.subplots()
    for place, device in enumerate(devices):
        for activity, colour in _COLOURS.items():
            spans = [span for span in trace.spans[device] if span.activity == activity]
            height = 0.45 if activity in {"computing", "assembling"} else 0.25
            below = place - 0.4 if height == 0.45 else place + 0.1
            if activity == "receiving":
                axes.vlines([(span.start - zero) * 1e3 for span in spans], below, below + height, colour, linewidth=1)
            else:
                widths = [((span.start - zero) * 1e3, (span.stop - span.start) * 1e3) for span in spans]
                axes.broken_barh(widths, (below, height), color=colour)
    axes.set_yticks(range(len(devices)), devices)
    axes.set_xlim(0, (ended - zero) * 1e3)
    axes.invert_yaxis()
    axes.set(xlabel="ms since the client asked", title=str(item.cell))
    axes.legend(handles=[Patch(color=colour, label=activity) for activity, colour in _COLOURS.items()], ncols=4,
                loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=8)  # fmt: skip
    return figure
