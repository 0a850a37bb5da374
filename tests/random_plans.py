"""Random plans for tests: any cut into segments, schemes and network, uneven shares with idle devices."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import strategies as st

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.routes import groups, relayed_ways
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
    """Segments of random length, each with its own scheme and shares; devices that relay, or do not."""
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
    return replace(plan_of(graph, devices, segments), relayed=draw(relays(devices)))


@st.composite
def clusters(draw: st.DrawFn, devices: int) -> Cluster:
    """Equal devices on a mesh, a ring or a star, some links missing if every device still reaches every other."""
    members = tuple(Device(f"device-{index}", f"device-{index}:1") for index in range(devices))
    names = [member.name for member in members]
    pairs = list(itertools.permutations(names, 2))
    missing = draw(st.frozensets(st.sampled_from(pairs), max_size=2)) if pairs else frozenset()
    cluster = Cluster(
        members,
        Link(125e6, 1e-4),
        draw(st.sampled_from(Topology)),
        center=draw(st.sampled_from(names)),
        missing=missing,
    )
    return cluster if len(groups(cluster)) == 1 else replace(cluster, missing=frozenset())


def relays(devices: int) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """The relayed ways of such a cluster."""
    return clusters(devices).map(relayed_ways)
