"""Operators that draw random numbers are computed by one device: each would draw others."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from flexpie.compiler.branches import subgraphs_of
from flexpie.compiler.weights import weight_values
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import single

_DRAWING = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def draws(node: ir.Node) -> bool:
    """Whether a node, or one in its sub-graphs, draws random numbers."""
    if node.domain not in {"", "ai.onnx"}:
        return False
    if node.op_type == "Dropout":
        training = node.inputs[2] if len(node.inputs) > 2 else None
        return training is not None and (training.const_value is None or bool(weight_values(training.const_value)))
    return node.op_type in _DRAWING or any(map(draws, (n for graph in subgraphs_of(node) for n in graph)))


def single_draws(graph: LayerGraph, plan: Plan) -> Iterator[Segment]:
    """The plan's segments, but each layer that draws on one device of its segment: that with the largest share.

    The planner's costs do not know of this. What is drawn is small, mostly.
    """
    for segment in plan.segments:
        active = [device for device, share in enumerate(segment.shares) if share > 0]
        first = segment.first
        for index in range(segment.first, segment.stop) if len(active) > 1 else ():
            if any(operator.draws for operator in graph.layers[index].operators):
                if first < index:
                    yield Segment(first, index, segment.scheme, segment.shares)
                device = max(active, key=lambda at: segment.shares[at])
                shares = tuple(float(at == device) for at in range(len(segment.shares)))
                yield Segment(index, index + 1, single(device), shares)
                first = index + 1
        if first < segment.stop:
            yield Segment(first, segment.stop, segment.scheme, segment.shares)
