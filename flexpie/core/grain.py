"""Grains: the steps in which an axis is best divided, such as 64 where it holds heads of 64 features.

A cut inside such a step makes two devices compute, or fetch, the same step. Grains follow from the rules alone: ask
for a part of an operator's output and see to which borders it is rounded, and which steps of the inputs are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from flexpie.core.graph import LayerGraph
from flexpie.core.region import Interval, Region
from flexpie.core.rules import BoundOperator, Rule, bind, rule_for
from flexpie.core.tensor import TensorSpec


def with_grains(graph: LayerGraph) -> LayerGraph:
    """The same graph, every activation's specification with its grain."""
    grains: dict[str, list[int]] = {}
    for operator in graph.operators():
        bound, rule = bind(graph, operator), rule_for(operator)
        for at, spec in enumerate(bound.outputs):
            if spec is None or spec.opaque:
                continue
            found = [_produced_step(bound, rule, at, spec, axis) for axis in range(len(spec.shape))]
            for index, name in enumerate(operator.inputs):
                if name in grains and rule.links(bound, index):
                    found = [max(a, b) for a, b in zip(found, grains[name], strict=True)]
            grains[spec.name] = found
        if len(operator.outputs) == 1:
            for name, axis, step in _read_steps(graph, bound, rule):
                if name in grains:
                    grains[name][axis] = max(grains[name][axis], step)
    specs = {
        name: dataclasses.replace(spec, grain=tuple(grains[name])) if max(grains.get(name, ()), default=1) > 1 else spec
        for name, spec in graph.tensors.items()
    }
    return dataclasses.replace(graph, tensors=specs)


def _one(spec: TensorSpec, axis: int, at: int = 0) -> Region:
    return spec.whole.with_axis(axis, Interval(at, at + 1))


def _is_step(length: int, step: int) -> bool:
    return 1 < step < length and length % step == 0


def _produced_step(bound: BoundOperator, rule: Rule, output: int, spec: TensorSpec, axis: int) -> int:
    """The step to whose borders an operator rounds what it produces along an axis; 1 where it is free."""
    length = spec.shape[axis]

    def produced(stop: int) -> Interval:
        region = spec.whole.with_axis(axis, Interval(0, stop))
        wanted = tuple(region if index == output else None for index in range(len(bound.outputs)))
        found = rule.produces(bound, wanted)[output]
        return region[axis] if found is None else found[axis]

    if length < 4 or spec.whole.is_empty or produced(length - 1).stop == length - 1:
        return 1
    for step in range(2, length // 2 + 1):
        if length % step == 0 and produced(step).stop == step and produced(step + 1).stop == 2 * step:
            return step
    return 1


def _read_steps(graph: LayerGraph, bound: BoundOperator, rule: Rule) -> Iterator[tuple[str, int, int]]:
    """Input axes of which each element along some output axis reads a step of its own: (tensor, axis, step)."""
    spec = bound.outputs[0]
    if spec is None or spec.opaque or spec.whole.is_empty:
        return
    for axis, length in enumerate(spec.shape):
        if length < 2:
            continue
        first, second = (rule.produces(bound, (_one(spec, axis, at),)) for at in (0, 1))
        if first[0] is None or second[0] is None or first == second or first[0][axis].length != 1:
            continue
        needs = zip(bound.operator.inputs, rule.needs(bound, first), rule.needs(bound, second), strict=True)
        for name, one, other in needs:
            if one is None or other is None or name in graph.weights:
                continue
            for at, (a, b) in enumerate(zip(one, other, strict=True)):
                apart = a.start == 0 and a.stop == b.start and a.length == b.length
                if apart and _is_step(graph.tensors[name].shape[at], a.length):
                    yield name, at, a.length
