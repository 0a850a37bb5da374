"""What it would take to hold a model that does not fit: how many devices, of which kind."""

from __future__ import annotations

from collections.abc import Iterator

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import GRID_2D, IN_H, OUT_C
from flexpie.planner.candidates import Shares
from flexpie.planner.cost import CostModel
from flexpie.planner.evaluation import evaluate
from flexpie.planner.memory import memory_needs

MOST_DEVICES = 64
"""More are not thought of."""
_SWITCHES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts of the layers that are divided by rows before the others are divided by channels: at first activations are
large, later weights."""


def advice(graph: LayerGraph, cluster: Cluster) -> str:
    """How many devices like the one with most memory would hold a model that does not fit; or what each of many would
    need, where that does not help. One sentence."""
    largest = max(cluster.devices, key=lambda device: device.memory_bytes or 0)
    budget = largest.memory_bytes or 0
    count = fewest_devices(graph, budget)
    if count is None:
        least = least_need(graph, MOST_DEVICES)
        return (
            f"More devices like {largest.name} would not do, however many: of {MOST_DEVICES} devices each would need "
            f"{least / 1e6:.1f} MB."
        )
    devices = "One device" if count == 1 else f"{count} devices"
    return f"{devices} like {largest.name} ({budget / 1e6:.1f} MB{' each' if count > 1 else ''}) would hold it."


def fewest_devices(graph: LayerGraph, budget: int) -> int | None:
    """The least number of equal devices with a memory of `budget` bytes for which a plan is known that fits; None if
    there is none up to `MOST_DEVICES`.

    Looks at plans that divide everything and fuse nothing: others need more memory, with few exceptions.
    """
    below, count = 0, 1
    while least_need(graph, count) > budget:
        if count == MOST_DEVICES:
            return None
        below, count = count, min(2 * count, MOST_DEVICES)
    while count - below > 1:
        between = (below + count) // 2
        if least_need(graph, between) > budget:
            below = between
        else:
            count = between
    return count


def least_need(graph: LayerGraph, devices: int) -> int:
    """The least bytes that each of some equal devices must have, by the best of a few plans."""
    return min(
        max(need.total for need in memory_needs(graph, segments, devices))
        for segments in _divisions(graph, (1.0,) * devices)
    )


def divided_plans(graph: LayerGraph, cluster: Cluster, model: CostModel) -> list[Plan]:
    """Plans that need little memory of each device, in proportion to what it has, with their predicted costs."""
    budgets = [device.memory_bytes for device in cluster.devices]
    known = [budget for budget in budgets if budget is not None]
    top = max((*known, 1))
    shares = tuple(1.0 if budget is None else budget / top for budget in budgets)
    return [evaluate(graph, cluster, segments, model) for segments in _divisions(graph, shares)]


def _divisions(graph: LayerGraph, shares: Shares) -> Iterator[list[Segment]]:
    layers = len(graph.layers)
    for part in _SWITCHES if len(shares) > 1 else (0.0,):
        for early in (IN_H, GRID_2D) if part > 0 else (IN_H,):
            until = round(part * layers)
            yield [Segment(at, at + 1, early if at < until else OUT_C, shares) for at in range(layers)]
