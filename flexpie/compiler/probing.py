"""Operators at which their rule stumbles: they contradict themselves in a way that neither the checker nor shape
inference looks at (an axis that is not there). They are computed whole, so that onnxruntime says what it thinks of
them.
"""

from __future__ import annotations

import dataclasses
import logging

from flexpie.core.graph import Layer, LayerGraph, Operator
from flexpie.core.rules import Regions, bind, rule_for

logger = logging.getLogger(__name__)


def without_stumbling(graph: LayerGraph) -> LayerGraph:
    """The same graph; operators that their rule cannot reason about are opaque."""
    layers = [
        Layer(layer.name, tuple(_settled(graph, operator) for operator in layer.operators)) for layer in graph.layers
    ]
    return dataclasses.replace(graph, layers=tuple(layers))


def _settled(graph: LayerGraph, operator: Operator) -> Operator:
    try:
        problem = _problem(graph, operator)
    except Exception as error:  # whatever a rule stumbles over
        problem = f"{type(error).__name__}: {error}"
    if not problem:
        return operator
    logger.warning("%s: node %s (%s) is computed whole: %s", graph.name, operator.name, operator.op_type, problem)
    return dataclasses.replace(operator, opaque=True)


def _problem(graph: LayerGraph, operator: Operator) -> str:
    """Ask for all that the operator yields; returns what is wrong with the rule's answer."""
    bound, rule = bind(graph, operator), rule_for(operator)
    for index, spec in enumerate(bound.inputs):
        if spec is not None:
            rule.links(bound, index)
    wanted: Regions = tuple(None if spec is None else spec.whole for spec in bound.outputs)
    if all(region is None for region in wanted):
        return ""
    produced = rule.produces(bound, wanted)
    needed = rule.needs(bound, produced)
    rule.local_form(bound, produced, needed)
    for spec, region in zip(bound.inputs, needed, strict=True):
        inside = spec is None or region is None or (len(region) == len(spec.shape) and spec.whole.contains(region))
        if spec is not None and not inside:
            return f"it would read {region} of {spec.name}, whose shape is {list(spec.shape)}"
    return ""
