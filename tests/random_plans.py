"""Random plans for tests: any cut into segments, any schemes, uneven shares with idle devices."""

from __future__ import annotations

from hypothesis import strategies as st

from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import REPLICATED, SPLITTING, Scheme, single

SHARES = (0.0, 0.3, 1.0, 1.0, 2.0, 5.0)


def plan_of(graph: LayerGraph, devices: int, segments: list[Segment]) -> Plan:
    """A plan that was not estimated."""
    return Plan(graph.signature, tuple(f"device-{index}" for index in range(devices)), tuple(segments))


def forced_plan(graph: LayerGraph, devices: int, scheme: Scheme, layers_per_segment: int = 1) -> Plan:
    """One scheme for every layer, equal shares, an exchange after every `layers_per_segment` layers."""
    count = len(graph.layers)
    starts = range(0, count, layers_per_segment)
    segments = [Segment(start, min(count, start + layers_per_segment), scheme, (1.0,) * devices) for start in starts]
    return plan_of(graph, devices, segments)


@st.composite
def plans(draw: st.DrawFn, graph: LayerGraph, devices: int, longest_segment: int = 6) -> Plan:
    """Segments of random length, each with its own scheme and shares."""
    segments, first = [], 0
    while first < len(graph.layers):
        stop = min(len(graph.layers), first + draw(st.integers(1, longest_segment)))
        scheme = draw(
            st.one_of(
                st.sampled_from([*SPLITTING, REPLICATED]),
                st.integers(0, devices - 1).map(single),
            )
        )
        shares = draw(st.lists(st.sampled_from(SHARES), min_size=devices, max_size=devices).filter(any))
        if scheme.device is not None:
            shares = [float(index == scheme.device) for index in range(devices)]
        segments.append(Segment(first, stop, scheme, tuple(shares)))
        first = stop
    return plan_of(graph, devices, segments)
