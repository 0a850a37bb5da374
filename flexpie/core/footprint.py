"""Footprints: what one device computes and needs in a segment, walked backwards from what it owns at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.graph import Layer, LayerGraph, Operator
from flexpie.core.region import Region
from flexpie.core.rules import Regions, bind, rule_for
from flexpie.core.scheme import Scheme, owned_regions


@dataclass(frozen=True)
class OperatorPart:
    """The part of one operator that a device computes."""

    operator: Operator
    produced: Regions
    """One region per output."""
    needed: Regions
    """One region per input; from them exactly `produced` follows."""


@dataclass
class Footprint:
    """What one device computes in a segment, grown backwards layer by layer.

    `wanted` begins with the regions that the device owns at the segment's end; `extend` takes in the layer in front.
    Where a tensor has several readers the bounding box of their needs counts.
    """

    graph: LayerGraph
    wanted: dict[str, Region]
    """Region of each activation, not yet produced inside the segment, that it needs so far. At the end these are the
    segment's inputs."""
    weights: dict[str, Region] = field(default_factory=dict)
    """Region of each weight that it needs."""
    held: dict[str, Region] = field(default_factory=dict)
    """Region of each tensor that it computes; at least what was wanted."""
    parts: list[OperatorPart] = field(default_factory=list)
    """Last operator first."""

    def extend(self, layer: Layer) -> list[OperatorPart]:
        """Take in the layer in front of those seen so far; returns the parts it adds, last operator first."""
        added = []
        for operator in reversed(layer.operators):
            part = self._compute(operator)
            if part is not None:
                added.append(part)
        self.parts += added
        return added

    def _compute(self, operator: Operator) -> OperatorPart | None:
        wanted = tuple(self.wanted.pop(name, None) if name else None for name in operator.outputs)
        if all(region is None for region in wanted):
            return None
        produced, needed = _part(self.graph, operator, wanted)
        for name, region in zip(operator.outputs, produced, strict=True):
            if name and region is not None:
                self.held[name] = region
        for name, region in zip(operator.inputs, needed, strict=True):
            if name and region is not None:
                target = self.weights if name in self.graph.weights else self.wanted
                target[name] = target[name].hull(region) if name in target else region
        return OperatorPart(operator, produced, needed)


def _part(graph: LayerGraph, operator: Operator, wanted: Regions) -> tuple[Regions, Regions]:
    """What is produced and needed where some regions are wanted; remembered for all operators that look the same."""
    bound = bind(graph, operator)
    known: dict[Regions, tuple[Regions, Regions]] = bound.found.setdefault("parts", {})
    if wanted not in known:
        rule = rule_for(operator)
        produced = rule.produces(bound, wanted)
        known[wanted] = produced, rule.needs(bound, produced)
    return known[wanted]


def crossing_tensors(graph: LayerGraph, first: int, stop: int) -> tuple[str, ...]:
    """The tensors that layers ``[first, stop)`` yield and that somebody needs after them: the segment's outputs."""
    live = set(graph.live_after(stop))
    return tuple(name for index in range(first, stop) for name in graph.layers[index].produced if name in live)


def owned_at_end(
    graph: LayerGraph, first: int, stop: int, scheme: Scheme, shares: tuple[float, ...]
) -> Mapping[str, tuple[Region | None, ...]]:
    """The region of every output of a segment that each device owns under its scheme."""
    specs = [graph.tensors[name] for name in crossing_tensors(graph, first, stop)]
    return {spec.name: owned_regions(scheme, spec.shape, shares, spec.grain) for spec in specs}


def segment_footprints(
    graph: LayerGraph, first: int, stop: int, scheme: Scheme, shares: tuple[float, ...]
) -> tuple[Footprint, ...]:
    """One footprint per device for layers ``[first, stop)``."""
    owned = owned_at_end(graph, first, stop, scheme, shares)
    footprints = []
    for device in range(len(shares)):
        wanted = {name: region for name, regions in owned.items() if (region := regions[device]) is not None}
        footprint = Footprint(graph, wanted)
        for index in range(stop - 1, first - 1, -1) if wanted else ():
            footprint.extend(graph.layers[index])
        footprints.append(footprint)
    return tuple(footprints)
