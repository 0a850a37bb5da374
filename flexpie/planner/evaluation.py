"""Predicts any given plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.footprint import Footprint, owned_at_end
from flexpie.core.graph import Layer, LayerGraph
from flexpie.core.plan import Plan, Segment, SegmentCost
from flexpie.core.routes import relayed_ways
from flexpie.core.scheme import REPLICATED, single
from flexpie.core.turns import next_turn, turns
from flexpie.planner.cost import Array, CostModel, LayerWork, layer_work, placed
from flexpie.planner.walk import walked


def evaluate(graph: LayerGraph, cluster: Cluster, segments: Sequence[Segment], cost_model: CostModel) -> Plan:
    """The plan of these segments with its predicted costs.

    The devices of a segment start together when the last one has its inputs: the predicted time is the sum over
    the segments of the exchange in front and of the slowest device's computing, plus the gathering of the outputs.
    Where devices take turns it is that of the one that answers a lone request.
    """
    devices = len(cluster.devices)
    if parts := turns(segments):
        return plan_in_turn(plans_alone(graph, cluster, cost_model), segments, parts)
    walk = walked(graph, devices, segments)
    works: list[list[list[LayerWork]]] = [[] for _ in range(devices)]
    for visit in walk.visits:
        for device, footprint in enumerate(visit.footprints):
            works[device].append(segment_works(graph, visit.segment, footprint))
    compute = _compute_seconds(cost_model, works)
    return _plan(graph, cluster, segments, compute, walk.exchanges, cost_model)


def plan_in_turn(alone: Sequence[Plan], segments: Sequence[Segment], parts: Mapping[int, float]) -> Plan:
    """The plan of devices that take turns with its predicted costs, from those of each device `alone`
    (`plans_alone`)."""
    first = alone[next_turn(parts, {})]
    seconds = tuple(
        plan.costs[0].compute_seconds[device] if device in parts else 0.0 for device, plan in enumerate(alone)
    )
    costs = (replace(first.costs[0], compute_seconds=seconds),)
    return replace(first, segments=tuple(segments), costs=costs)


def single_segments(graph: LayerGraph, devices: int, device: int) -> tuple[Segment, ...]:
    """The whole model on one device."""
    shares = tuple(float(index == device) for index in range(devices))
    return (Segment(0, len(graph.layers), single(device), shares),) if graph.layers else ()


def plans_alone(graph: LayerGraph, cluster: Cluster, cost_model: CostModel) -> list[Plan]:
    """The plan of the whole model on each device alone, as `evaluate` predicts it. All of them compute the same and
    exchange the same bytes with the master: the graph is walked once."""
    devices, twins = len(cluster.devices), cost_model.twins
    walk = walked(graph, devices, single_segments(graph, devices, 0))
    visits = walk.visits
    works = [work for visit in visits for work in segment_works(graph, visit.segment, visit.footprints[0])]
    seconds = {twin: sum(cost_model.compute_seconds(twin, works).tolist(), start=0.0) for twin in dict.fromkeys(twins)}
    found = []
    for device in range(devices):
        order = np.arange(devices + 1)
        order[[0, device]] = device, 0
        moved = [nbytes[order][:, order] for nbytes in walk.exchanges]
        compute = [[seconds[twins[device]] if other == device else 0.0 for _ in visits] for other in range(devices)]
        found.append(_plan(graph, cluster, single_segments(graph, devices, device), compute, moved, cost_model))
    return found


def _plan(
    graph: LayerGraph,
    cluster: Cluster,
    segments: Sequence[Segment],
    compute: Sequence[Sequence[float]],
    exchanges: Sequence[Array],
    cost_model: CostModel,
) -> Plan:
    """A plan, given each device's seconds for each segment and the bytes of each exchange, the last one included."""
    *seconds, gather = cost_model.exchange_seconds(np.stack(exchanges)).tolist()
    costs = [
        SegmentCost(tuple(of_device), exchange, int(nbytes.sum()))
        for *of_device, exchange, nbytes in zip(*compute, seconds, exchanges[:-1], strict=True)
    ]
    total = sum(cost.exchange_seconds + max(cost.compute_seconds) for cost in costs) + gather
    names = tuple(device.name for device in cluster.devices)
    relayed = relayed_ways(cluster)
    return Plan(graph.signature, names, tuple(segments), tuple(costs), gather, total, relayed, graph.boundary)


def _compute_seconds(model: CostModel, works: Sequence[Sequence[Sequence[LayerWork]]]) -> list[list[float]]:
    """Seconds that each device takes for each segment, of which `works` holds those of its layers. The model is asked
    once for all devices that are equally fast."""
    twins = model.twins
    seconds: dict[int, dict[LayerWork, float]] = {}
    for device in dict.fromkeys(twins):
        mine = [of_device for twin, of_device in zip(twins, works, strict=True) if twin == device]
        asked = list({work: None for of_device in mine for segment in of_device for work in segment})
        answers = model.compute_seconds(device, asked).tolist() if asked else []
        seconds[device] = dict(zip(asked, answers, strict=True))
    return [
        [sum((seconds[twin][work] for work in segment), start=0.0) for segment in of_device]
        for twin, of_device in zip(twins, works, strict=True)
    ]


def segment_works(
    graph: LayerGraph, segment: Segment, footprint: Footprint, *, borders: bool = False
) -> list[LayerWork]:
    """What a device does for each layer of a segment that it has a part of, in running order.

    With `borders` the works tell which of them are at a border of the segment. The search does not know that, so what
    is compared with its costs goes without.
    """
    parts = {part.operator.name: part for part in footprint.parts}
    found = []
    for layer in graph.layers[segment.first : segment.stop]:
        own = [parts[operator.name] for operator in reversed(layer.operators) if operator.name in parts]
        if own:
            works = layer_work(graph, layer, own)
            found.append(placed(works, *_borders(graph, layer, segment)) if borders else works)
    return found


def _borders(graph: LayerGraph, layer: Layer, segment: Segment) -> tuple[bool, bool]:
    """Whether a layer of a segment reads what enters it, and whether it yields what leaves it."""
    enters = any(graph.producer.get(name, -1) < segment.first for name in layer.consumed if name not in graph.weights)
    return enters, any(graph.last_use(name) >= segment.stop for name in layer.produced)


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


def same_division(graph: LayerGraph, first: Sequence[Segment], second: Sequence[Segment]) -> bool:
    """Whether the devices do the same in two plans, whatever their schemes are called."""
    return _divisions(graph, first) == _divisions(graph, second)


def _divisions(graph: LayerGraph, segments: Sequence[Segment]) -> list[tuple[int, object]]:
    """Where exchanges are, and what each device owns then. Between neighbours in which the same devices each compute
    everything there is none."""
    found: list[tuple[int, object]] = []
    for segment in segments:
        owned = owned_at_end(graph, segment.first, segment.stop, segment.scheme, segment.shares)
        wholes = {
            frozenset(device for device, region in enumerate(regions) if region == graph.tensors[name].whole)
            if all(region in (None, graph.tensors[name].whole) for region in regions)
            else None
            for name, regions in owned.items()
        }
        everything = wholes.pop() if len(wholes) == 1 else None
        if found and everything is not None and found[-1][1] == everything:
            found.pop()
        found.append((segment.stop, everything if everything is not None else owned))
    return found
