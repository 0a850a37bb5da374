"""How much of a model's work a plan divides, and how much it does more than once."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.footprint import segment_footprints
from flexpie.core.graph import LayerGraph, Operator
from flexpie.core.plan import Plan
from flexpie.core.rules import Regions, bind, rule_for
from flexpie.core.turns import turns

MULTIPLYING = frozenset(
    {
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"),
        *("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm", "QGemm", "Einsum", "Attention"),
        *("LSTM", "GRU", "RNN"),
    }
)
"""Operators whose multiply-adds make up the work of real models."""


@dataclass(frozen=True)
class WorkShares:
    """Shares of a model's multiply-adds."""

    split: float
    """Of operators that no device computes whole; 1.0 for a model without multiply-adds that is divided at all."""
    redundant: float
    """Computed beyond once, relative to the whole model's: 0.1 is a tenth more work than unsplit."""


def work_shares(graph: LayerGraph, plan: Plan) -> WorkShares:
    """Add up the parts of every operator over the devices of a plan. Devices that take turns divide nothing."""
    if turns(plan.segments):
        return WorkShares(0.0, 0.0)
    whole: dict[str, int] = {}
    computed: dict[str, list[int]] = {}
    for segment in plan.segments:
        for footprint in segment_footprints(graph, segment.first, segment.stop, segment.scheme, segment.shares):
            for part in footprint.parts:
                computed.setdefault(part.operator.name, []).append(_flops(graph, part.operator, part.produced))
    for operator in graph.operators():
        if operator.name in computed:
            everything = tuple(graph.tensors[name].whole if name else None for name in operator.outputs)
            whole[operator.name] = _flops(graph, operator, everything)
    counted = {operator.name for operator in graph.operators() if operator.op_type in MULTIPLYING} & set(whole)
    names = counted or set(whole)
    total = sum(whole[name] for name in names)
    if not total:
        return WorkShares(0.0, 0.0)
    divided = sum(whole[name] for name in names if max(computed[name]) < whole[name])
    # A part of an operator's output that nobody needs is left out, which is no negative redundancy of others.
    redundant = sum(max(0, sum(computed[name]) - whole[name]) for name in names)
    return WorkShares(divided / total, redundant / total)


def _flops(graph: LayerGraph, operator: Operator, produced: Regions) -> int:
    return rule_for(operator).flops(bind(graph, operator), produced)
