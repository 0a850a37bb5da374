"""Predicts any given plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.footprint import Footprint
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment, SegmentCost
from flexpie.core.routes import relayed_ways
from flexpie.core.scheme import REPLICATED
from flexpie.planner.cost import CostModel, LayerWork, layer_work
from flexpie.planner.walk import Walk


def evaluate(graph: LayerGraph, cluster: Cluster, segments: Sequence[Segment], cost_model: CostModel) -> Plan:
    """The plan of these segments with its predicted costs.

    The devices of a segment start together when the last one has its inputs: the predicted time is the sum over
    the segments of the exchange in front and of the slowest device's computing, plus the gathering of the outputs.
    """
    devices = len(cluster.devices)
    walk = Walk(graph, devices)
    costs = []
    for visit in walk.visits(segments):
        compute = tuple(
            float(np.sum(cost_model.compute_seconds(device, segment_works(graph, visit.segment, footprint))))
            for device, footprint in enumerate(visit.footprints)
        )
        seconds = float(cost_model.exchange_seconds(visit.nbytes))
        costs.append(SegmentCost(compute, seconds, int(visit.nbytes.sum())))
    gather = float(cost_model.exchange_seconds(walk.gather()))
    total = sum(cost.exchange_seconds + max(cost.compute_seconds) for cost in costs) + gather
    names = tuple(device.name for device in cluster.devices)
    return Plan(graph.signature, names, tuple(segments), tuple(costs), gather, total, relayed_ways(cluster))


def segment_works(graph: LayerGraph, segment: Segment, footprint: Footprint) -> list[LayerWork]:
    """What a device does for each layer of a segment that it has a part of, in running order."""
    parts = {part.operator.name: part for part in footprint.parts}
    found = []
    for layer in graph.layers[segment.first : segment.stop]:
        own = [parts[operator.name] for operator in reversed(layer.operators) if operator.name in parts]
        if own:
            found.append(layer_work(graph, layer, own))
    return found


def merged(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same plan with fewer segments: neighbours on one device, or replicated on the same devices, are one.

    No exchange separates them and the same is computed; only what nobody outside reads is not kept.
    """
    result: list[Segment] = []
    for segment in segments:
        before = result[-1] if result else None
        alike = before is not None and (before.scheme, before.shares) == (segment.scheme, segment.shares)
        if before is not None and alike and (segment.scheme == REPLICATED or segment.scheme.device is not None):
            result[-1] = Segment(before.first, segment.stop, segment.scheme, segment.shares)
        else:
            result.append(segment)
    return tuple(result)
