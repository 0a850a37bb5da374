"""From traces of requests to seconds by segment; the same of simulated ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from statistics import median

from flexpie.client.types import RequestTrace
from flexpie.planner.simulation import Simulation
from flexpie.planner.timeline import Activity

_SEGMENT = re.compile(r"segment(\d+)")

Computed = tuple[int, float, float]
"""A segment that a device computed, and when it began and ended."""


def segment_seconds(trace: RequestTrace) -> tuple[float, ...]:
    """How long each segment took, the exchange behind it included: see `durations`."""
    return durations(
        (int(match[1]), span.start, span.stop)
        for spans in trace.spans.values()
        for span in spans
        if span.activity == "computing" and (match := _SEGMENT.fullmatch(span.what)) is not None
    )


def simulated_segment_seconds(simulation: Simulation) -> tuple[float, ...]:
    """The same of a simulation of one request."""
    return durations(
        (span.segment, span.start, span.stop)
        for span in simulation.spans
        if span.activity is Activity.COMPUTING and span.segment is not None
    )


def durations(computed: Iterable[Computed]) -> tuple[float, ...]:
    """Seconds from when the last device began a segment to when the last device began the next one, as the FlexPie
    paper counts a layer's time: computing, and what the next layer has to wait for. The last one ends with computing.

    What happens before the first segment (inputs are scattered) and after the last one is in none.
    """
    begun: dict[int, float] = {}
    ended = 0.0
    for segment, start, stop in computed:
        begun[segment] = max(begun.get(segment, start), start)
        ended = max(ended, stop)
    marks = [*(begun[segment] for segment in sorted(begun)), ended]
    return tuple(after - before for before, after in itertools.pairwise(marks)) if begun else ()


def typical(requests: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The median over some requests with as many segments each, segment by segment."""
    return tuple(round(median(values), 7) for values in zip(*requests, strict=True))
