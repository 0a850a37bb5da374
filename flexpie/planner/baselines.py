"""What a plan is compared with: the strategies of the literature, and those that a user would try first.

| name | stands for | definition |
|---|---|---|
| OutC | Xenos | every layer by output channels, an exchange after each (T everywhere) |
| InH, InW | MoDNN, DeepSlicing | every layer by rows (columns), an exchange after each |
| Grid2D | DeepThings | every layer as a grid, an exchange after each |
| layer-wise | DINA, PartialDI | the best of these four schemes for each layer, no fusion |
| fused-layer | AOFL, EdgeCI | the best fusion, all segments in one and the same of the four schemes |
| Single | | the whole model on the device that is fastest alone |
| pipeline | DEFER | whole layers; stretches of them on different devices; see `flexpie.planner.stages` |
| DataParallel | | the whole model on every device, each request on one of them; see `flexpie.core.turns` |

The literature divides equally among equal devices. Shares here are in proportion to the devices' speeds: that is the
same where they are equal, and what its authors would do where they are not. Every device takes part, also where fewer
would be faster.
"""

from __future__ import annotations

from collections.abc import Sequence

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import GRID_2D, IN_H, IN_W, OUT_C, REPLICATED, SPLITTING, Scheme
from flexpie.core.strategy import DATA_PARALLEL, FIXED, FUSED_LAYER, LAYER_WISE, PIPELINE, SINGLE_DEVICE
from flexpie.planner.candidates import proportional_shares
from flexpie.planner.cost import CostModel
from flexpie.planner.evaluation import evaluate, plans_alone
from flexpie.planner.forced import forced_segments
from flexpie.planner.search import search
from flexpie.planner.stages import balanced_stages
from flexpie.planner.table import cost_table
from flexpie.planner.turns import data_parallel_plan

PAPER_SCHEMES = (OUT_C, IN_H, IN_W, GRID_2D)
"""What the strategies of the literature choose from."""

_SCHEMES = {str(scheme): scheme for scheme in (*SPLITTING, REPLICATED)}


def baseline_plan(graph: LayerGraph, cluster: Cluster, name: str, model: CostModel) -> Plan:
    """The plan of a strategy (any of `flexpie.core.strategy.STRATEGIES` but ``auto``) with its predicted costs.

    Memory budgets are not looked at: what does not fit is for the caller to refuse or to tell.
    """
    if name == DATA_PARALLEL:
        return data_parallel_plan(graph, cluster, model)
    if name in FIXED:
        return evaluate(graph, cluster, forced_segments(graph, cluster, _SCHEMES[name]), model)
    if name == PIPELINE:
        return evaluate(graph, cluster, balanced_stages(graph, cluster, model), model)
    chooser = {LAYER_WISE: _layer_wise, FUSED_LAYER: _fused_layer, SINGLE_DEVICE: plans_alone}[name]
    return min(chooser(graph, cluster, model), key=lambda plan: plan.predicted_seconds)


def _layer_wise(graph: LayerGraph, cluster: Cluster, model: CostModel) -> list[Plan]:
    segments = _best_segments(graph, cluster, model, PAPER_SCHEMES, longest=1)
    return [evaluate(graph, cluster, segments, model)]


def _fused_layer(graph: LayerGraph, cluster: Cluster, model: CostModel) -> list[Plan]:
    longest = max(1, len(graph.layers))
    found = [_best_segments(graph, cluster, model, (scheme,), longest) for scheme in PAPER_SCHEMES]
    return [evaluate(graph, cluster, segments, model) for segments in found]


def _best_segments(
    graph: LayerGraph, cluster: Cluster, model: CostModel, schemes: Sequence[Scheme], longest: int
) -> tuple[Segment, ...]:
    """The fastest segments of at most `longest` layers in these schemes."""
    shares = proportional_shares(cluster)
    candidates = [(scheme, shares) for scheme in schemes]
    return search(cost_table(graph, len(cluster.devices), candidates, model, max_layers=longest)).segments
