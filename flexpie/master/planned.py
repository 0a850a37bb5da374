"""How a deployment was planned: for which part of the cluster, and what users are told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.program import MASTER, DeviceProgram, Send
from flexpie.core.routes import groups
from flexpie.master.deployment import Deployment
from flexpie.master.events import DeviceName, LinkName, PlanSummary, SegmentSummary
from flexpie.master.instructions import StartDeployment

if TYPE_CHECKING:
    from flexpie.pipeline import Compiled
    from flexpie.planner.planning import PlanningResult


@dataclass(frozen=True)
class Planned:
    """How a deployment was planned."""

    start: StartDeployment
    result: PlanningResult
    cluster: Cluster
    """As it was believed to be."""


def usable_cluster(cluster: Cluster, start: StartDeployment, memory: Mapping[DeviceName, int]) -> Cluster:
    """The devices of a deployment, with the memory that is left for it.

    Where they do not all reach one another because devices or links between them are lost, only the group of those
    that do and are the fastest together.
    """
    devices = []
    for device in cluster.devices:
        if device.name not in start.devices or (start.only and device.name != start.only):
            continue
        limits = [nbytes for nbytes in (device.memory_bytes, memory.get(device.name)) if nbytes]
        left = max(1, min(limits) - start.reserved_bytes.get(device.name, 0)) if limits else None
        devices.append(dataclasses.replace(device, memory_bytes=left))
    usable = dataclasses.replace(cluster, devices=tuple(devices), missing=cluster.missing | start.missing)
    fastest = max(groups(usable), key=lambda group: sum(devices[index].speed for index in group))
    return dataclasses.replace(usable, devices=tuple(devices[index] for index in fastest))


def summarize(
    graph: LayerGraph, result: PlanningResult, deployment: Deployment, compiled: Compiled, remark: str = ""
) -> PlanSummary:
    """What users are told about a plan."""
    plan = result.plan
    segments = []
    for segment, cost in zip(plan.segments, plan.costs, strict=True):
        layers = tuple(layer.name for layer in graph.layers[segment.first : segment.stop])
        compute = max(cost.compute_seconds, default=0.0)
        segments.append(
            SegmentSummary(
                layers, str(segment.scheme), segment.shares, compute, cost.exchange_seconds, cost.exchange_bytes
            )
        )
    return PlanSummary(
        deployment.names,
        tuple(segments),
        result.latency_seconds,
        result.single_device_seconds,
        requests_per_second=result.occupation.requests_per_second,
        single_device_fits=result.single_device_fits,
        remark=remark,
        links=links_of(compiled.plan.devices, filter(None, compiled.programs)),
        boundary=plan.boundary,
    )


def links_of(devices: Sequence[DeviceName], programs: Iterable[DeviceProgram]) -> frozenset[LinkName]:
    """The links between devices over which the programs send anything."""
    return frozenset(
        (devices[program.device], devices[step.destination])
        for program in programs
        for step in program.steps
        if isinstance(step, Send) and step.destination != MASTER
    )
