"""Plans that are given, not searched: one scheme for every layer."""

from __future__ import annotations

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import Scheme
from flexpie.planner.candidates import Shares, proportional_shares
from flexpie.planner.cost import CostModel
from flexpie.planner.estimator import default_cost_model
from flexpie.planner.evaluation import evaluate


def forced_segments(
    graph: LayerGraph, cluster: Cluster, scheme: Scheme, *, fuse: int = 1, shares: Shares | None = None
) -> tuple[Segment, ...]:
    """Segments of `fuse` layers each, all in one scheme: with one layer each, the fixed schemes of the literature.

    Shares are in proportion to the devices' speeds unless given. A scheme that divides an axis which a tensor does
    not have leaves that tensor to the fastest device.
    """
    weights = proportional_shares(cluster) if shares is None else shares
    layers = len(graph.layers)
    return tuple(Segment(first, min(first + fuse, layers), scheme, weights) for first in range(0, layers, max(1, fuse)))


def forced_plan(
    graph: LayerGraph,
    cluster: Cluster,
    scheme: Scheme,
    *,
    fuse: int = 1,
    shares: Shares | None = None,
    cost_model: CostModel | None = None,
) -> Plan:
    """The plan of `forced_segments` with its predicted costs, by default those of `default_cost_model`."""
    model = default_cost_model(cluster) if cost_model is None else cost_model
    return evaluate(graph, cluster, forced_segments(graph, cluster, scheme, fuse=fuse, shares=shares), model)
