"""Predicts any given plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.footprint import Footprint
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment, SegmentCost
from flexpie.planner.cost import CostModel, Work, work_of
from flexpie.planner.walk import Walk


def evaluate(graph: LayerGraph, cluster: Cluster, segments: Sequence[Segment], cost_model: CostModel) -> Plan:
    """The plan of these segments with its predicted costs.

    The devices of a segment start together when the last one has its inputs: the predicted time is the sum over
    the segments of the exchange in front and of the slowest device's computing, plus the gathering of the outputs.
    """
    devices = len(cluster.devices)
    first_operators = {layer.operators[0].name for layer in graph.layers}
    walk = Walk(graph, devices)
    costs = []
    for visit in walk.visits(segments):
        compute = tuple(
            float(np.sum(cost_model.compute_seconds(device, _works(graph, footprint, first_operators))))
            for device, footprint in enumerate(visit.footprints)
        )
        seconds = float(cost_model.exchange_seconds(visit.nbytes))
        costs.append(SegmentCost(compute, seconds, int(visit.nbytes.sum())))
    gather = float(cost_model.exchange_seconds(walk.gather()))
    total = sum(cost.exchange_seconds + max(cost.compute_seconds) for cost in costs) + gather
    names = tuple(device.name for device in cluster.devices)
    return Plan(graph.signature, names, tuple(segments), tuple(costs), gather, total)


def _works(graph: LayerGraph, footprint: Footprint, first_operators: set[str]) -> list[Work]:
    return [work_of(graph, part, part.operator.name not in first_operators) for part in footprint.parts]
