"""Searching within the devices' memory budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import OUT_C
from flexpie.planner.candidates import Candidate, Shares, all_candidates, share_choices
from flexpie.planner.cost import CostModel
from flexpie.planner.evaluation import evaluate, merged
from flexpie.planner.forced import forced_segments
from flexpie.planner.memory import MemoryNeed, memory_needs
from flexpie.planner.memory_saving import least_memory
from flexpie.planner.search import SearchResult, search, search_fitting, search_within
from flexpie.planner.sizing import advice, divided_plans
from flexpie.planner.table import CostTable, cost_table

_RAISES = 6
"""Searches with rising prices, the first with none."""
_RAISE = 4.0
"""What a price is multiplied with for the next search."""
_FIRST_PRICE = 1 / 64
"""The first price: what a device's whole budget costs, as a part of the time of the fastest plan."""
EQUAL = 1 + 1e-6
"""One device is preferred to a division that is faster by less."""
_FEW_LAYERS = 12
"""Layers of the largest graph of which all segments are looked at."""
_ROOM_STEPS = 3
"""Corrections of what the activations leave to the weights."""


@dataclass(frozen=True)
class Fit:
    """A plan within the budgets."""

    plan: Plan
    gap: float | None
    """By which part another plan that fits could be faster at most; None if not known."""
    priced: bool
    """Whether the fastest plan did not fit, so that weights were given a price."""


@dataclass(frozen=True)
class Excess:
    """Devices that need more memory than they have."""

    needs: tuple[MemoryNeed, ...]
    devices: tuple[int, ...]
    total_bytes: int
    """Summed over the devices."""

    def error(self, cluster: Cluster, what: str, advice: str = "") -> FlexPieError:
        """OUT_OF_MEMORY with what each of the devices needs and has, and what else to do."""
        lines = []
        for index in self.devices:
            device, need = cluster.devices[index], self.needs[index]
            parts = f"weights {_megabytes(need.weights)}, activations {_megabytes(need.activations)}"
            has = _megabytes(device.memory_bytes or 0)
            lines.append(f"{device.name} needs {_megabytes(need.total)} ({parts}) and has {has}")
        return FlexPieError(
            ErrorCode.OUT_OF_MEMORY,
            f"The model does not fit the devices' memory ({what}): {'; '.join(lines)}.",
            "Raise the memory of these devices in the cluster file if they have more, or add devices."
            + (f" {advice}" if advice else ""),
        )


def exceeding(cluster: Cluster, needs: Sequence[MemoryNeed]) -> Excess | None:
    """The devices whose budget a plan exceeds; None when it fits."""
    budgets = [device.memory_bytes for device in cluster.devices]
    over = {d: need.total - budget for d, (need, budget) in enumerate(zip(needs, budgets, strict=True))
            if budget is not None and need.total > budget}  # fmt: skip
    return Excess(tuple(needs), tuple(over), sum(over.values())) if over else None


def search_within_budgets(
    graph: LayerGraph,
    cluster: Cluster,
    model: CostModel,
    candidates: Sequence[Candidate],
    alone: Sequence[Plan],
) -> Fit:
    """The fastest plan found that fits every device's memory.

    Where the fastest of all fits, it is that. Of a graph with few layers it is the fastest one that fits, too. Else
    searches that limit each device's weights, to what its budget leaves beside the activations, and searches that put
    a price on them compete: the best plan is good, but not proven best. Where they find nothing, the plan that needs
    least memory is the last resort.

    Parameters
    ----------
    alone: the plans of each device alone; they compete too.
    """
    return _Budgets(graph, cluster, model, alone).fit(candidates)


class _Budgets:
    def __init__(self, graph: LayerGraph, cluster: Cluster, model: CostModel, alone: Sequence[Plan]) -> None:
        self.graph, self.cluster, self.model = graph, cluster, model
        self.devices = len(cluster.devices)
        self.best: Plan | None = None
        self.least: Excess | None = None
        self.budgets = [device.memory_bytes for device in cluster.devices]
        self.alone = alone

    def fit(self, candidates: Sequence[Candidate]) -> Fit:
        table = cost_table(self.graph, self.devices, candidates, self.model)
        result = search(table)
        found = evaluate(self.graph, self.cluster, merged(result.segments), self.model)
        excess = self._consider(found)
        for plan in self.alone:
            self._consider(plan, margin=EQUAL)
        if excess is None:
            assert self.best is not None
            return Fit(self.best, self._gap(result), False)
        least_weights = forced_segments(self.graph, self.cluster, OUT_C)
        self._consider(evaluate(self.graph, self.cluster, least_weights, self.model))
        exact = self._search_exactly(excess)
        if not exact:
            self._search_tighter(found, excess)
        if self.best is None:
            known = [found, *self.alone, *divided_plans(self.graph, self.cluster, self.model)]
            self._consider(least_memory(self.graph, self.cluster, self.model, table, known).plan)
        if self.best is None:
            assert self.least is not None
            raise self.least.error(
                self.cluster, "no plan was found that fits; the closest", advice(self.graph, self.cluster)
            )
        return Fit(self.best, 0.0 if exact else self._gap(result), True)

    def _gap(self, fastest: SearchResult) -> float | None:
        """How much faster a plan could be than the best one, given what is known of all that need not fit."""
        assert self.best is not None
        before = self.best.predicted_seconds
        if fastest.exact and before <= fastest.seconds * EQUAL:
            return 0.0
        return 1 - fastest.bound / before if fastest.complete and 0 < fastest.bound < before else None

    def _search_exactly(self, excess: Excess) -> bool:
        """Look for the fastest plan that fits in the order of lower bounds, in a graph with few layers. Returns whether
        it was found, or none fits."""
        if len(self.graph.layers) > _FEW_LAYERS:
            return False
        candidates = self._roomier_candidates(excess)
        table = cost_table(self.graph, self.devices, candidates, self.model, every_segment=True)
        upper = math.inf if self.best is None else self.best.predicted_seconds
        result = search_fitting(table, self._fits, upper)
        if result.segments:
            self._consider(evaluate(self.graph, self.cluster, result.segments, self.model))
        return result.exact

    def _fits(self, segments: Sequence[Segment]) -> bool:
        return exceeding(self.cluster, memory_needs(self.graph, segments, self.devices)) is None

    def _search_tighter(self, fastest: Plan, excess: Excess) -> None:
        """Search within the budgets with dearer and dearer weights on the devices that are over them, also without
        these devices."""
        table = cost_table(self.graph, self.devices, self._roomier_candidates(excess), self.model)
        price = 0.0
        for _ in range(_RAISES):
            prices = [
                price / max(1, budget) if budget is not None and at in excess.devices else 0.0
                for at, budget in enumerate(self.budgets)
            ]
            if self._fill_room(table, prices):
                return
            price = max(_RAISE * price, fastest.predicted_seconds * _FIRST_PRICE)

    def _fill_room(self, table: CostTable, prices: Sequence[float]) -> bool:
        """Search with the weights limited to what the activations of the plan before leave. Returns whether
        everything was looked at, so that other prices find nothing better."""
        room = [math.inf if budget is None else float(budget) for budget in self.budgets]
        everything = True
        for _ in range(_ROOM_STEPS):
            result = search_within(table, room, prices)
            everything = everything and result.exact
            if not result.segments:
                return everything
            plan = evaluate(self.graph, self.cluster, merged(result.segments), self.model)
            excess = self._consider(plan)
            if excess is None:
                return everything
            for device in excess.devices:
                need = excess.needs[device]
                over = need.total - (self.budgets[device] or 0)
                room[device] = min(room[device], float(need.weights)) - over
        return False

    def _roomier_candidates(self, excess: Excess) -> list[Candidate]:
        """All candidates, more that leave out the devices that are too small, and more in proportion to memory."""
        known = [budget for budget in self.budgets if budget is not None]
        room = [float(max(known) if budget is None else budget) for budget in self.budgets]
        choices: dict[Shares, None] = dict.fromkeys(share_choices(self.cluster))
        if max(room) > 0:
            choices[tuple(value / max(room) for value in room)] = None
        if len(excess.devices) < self.devices - 1:
            choices |= dict.fromkeys(share_choices(self.cluster, frozenset(excess.devices)))
        return all_candidates(self.devices, tuple(choices))

    def _consider(self, plan: Plan, margin: float = 1.0) -> Excess | None:
        """Keep a plan that fits if it is the fastest so far, or slower by less than a margin; else say what is too
        much."""
        excess = None
        if any(budget is not None for budget in self.budgets):
            excess = exceeding(self.cluster, memory_needs(self.graph, plan.segments, self.devices))
        if excess is None:
            if self.best is None or plan.predicted_seconds < self.best.predicted_seconds * margin:
                self.best = plan
        elif self.least is None or excess.total_bytes < self.least.total_bytes:
            self.least = excess
        return excess


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"
