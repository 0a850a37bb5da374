"""The plan that needs least memory, and a bound of what any plan needs.

What counts is the device that needs the largest part of its memory. Weights add up over segments; activations do not:
the largest moment counts. So searches split each device's limit into one part for weights and one for activations,
in several ways, and lower the limit as long as they find a plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan
from flexpie.planner.bounds import lower_bounds
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.evaluation import evaluate, merged
from flexpie.planner.layouts import NOTHING
from flexpie.planner.memory import MemoryNeed, memory_needs
from flexpie.planner.resources import Prices, ResourceSweep
from flexpie.planner.table import CostTable, Cut

_PARTS = (0.5, 0.125, 0.875, 0.3, 0.7)
"""Parts of the limit that searches leave to the activations."""
_STEPS = 8
"""Halvings of the range between the bound and the best plan, at most."""
_CORRECTIONS = 2
"""Searches that leave to the weights what the activations of the plan before take."""
_GOOD_ENOUGH = 1e-2
"""Part of the need that is not worth another search."""
_ENDLESS = 1e15
"""Seconds that no plan takes."""


@dataclass(frozen=True)
class MemorySaving:
    """The best plan that was found, and what is known of all others."""

    plan: Plan
    largest: float
    """The largest part of its memory that a device needs; bytes where no device has a limit."""
    bound: float
    """No plan in the planner's space needs less, if its table is complete."""

    @property
    def gap(self) -> float:
        """By which part the least need may be less than this plan's."""
        return max(0.0, 1 - self.bound / self.largest) if self.largest > 0 else 0.0


def capacities(cluster: Cluster) -> Array:
    """What each device's need is compared with, [n]: its memory, infinite where it has no limit; 1 where none has."""
    budgets = [device.memory_bytes for device in cluster.devices]
    if all(budget is None for budget in budgets):
        return np.ones(len(budgets))
    return np.array([np.inf if budget is None else max(1, budget) for budget in budgets], dtype=np.float64)


def largest_part(needs: Sequence[MemoryNeed], room: Array) -> float:
    """The largest need in parts of `capacities`."""
    return max((need.total / float(there) for need, there in zip(needs, room, strict=True)), default=0.0)


def least_memory(
    graph: LayerGraph, cluster: Cluster, model: CostModel, table: CostTable, plans: Sequence[Plan]
) -> MemorySaving:
    """The plan whose largest need of a device's memory is least, of `plans` and of what searches find; and of those
    that need no more, the fastest that was found.

    Parameters
    ----------
    table: the graph's segments on this cluster, with the model's costs.
    plans: one or more, with their predicted costs.
    """
    saving = _Saving(graph, cluster, model, table, plans)
    saving.lower()
    saving.hasten()
    return MemorySaving(saving.best, saving.largest, min(saving.bound, saving.largest))


class _Uses:
    """What `flexpie.planner.resources.Uses` asks for: the part of each device's memory that weights take, and the
    seconds of a request."""

    def __init__(self, model: CostModel, room: Array) -> None:
        self._model, self._room = model, room

    def of_segments(self, cut: Cut) -> Array:
        return np.column_stack((cut.weight_bytes / self._room, cut.compute_seconds.max(axis=1, initial=0.0)))

    def of_exchanges(self, nbytes: Array) -> Array:
        seconds = self._model.exchange_seconds(nbytes)
        return np.concatenate((np.zeros((*seconds.shape, len(self._room))), seconds[..., None]), axis=-1)


class _Saving:
    def __init__(
        self, graph: LayerGraph, cluster: Cluster, model: CostModel, table: CostTable, plans: Sequence[Plan]
    ) -> None:
        self.graph, self.cluster, self.model, self.table = graph, cluster, model, table
        self.room = capacities(cluster)
        self.devices = len(self.room)
        self.largest = np.inf
        self.best = plans[0]
        for plan in plans:
            self._consider(plan)
        self.activations = [_least_activations(table, position) for position in range(len(table.cuts))]
        weights = _weights_onward(table)
        once = _without_repeats(graph, float(weights[0]), self.devices)
        self.bound = (once + _largest_moment(table, self.activations)) / float(self.room.sum())
        prices = np.append(self.room / self.room.sum() if np.isfinite(self.room).all() else np.zeros(self.devices), 0.0)
        onward = tuple(
            np.full(max(1, len(cut.candidates)), least / self.room.sum())
            for cut, least in zip(table.cuts, weights, strict=True)
        )
        self.uses = _Uses(model, self.room)
        self.sweep = ResourceSweep(table, self.uses, [Prices(prices, onward)])

    def lower(self) -> None:
        """Search within lower and lower limits."""
        least = self.bound
        for _ in range(_STEPS):
            if self.largest - least <= _GOOD_ENOUGH * self.largest:
                break
            wanted = (least + self.largest) / 2
            if not any(self._search(wanted, part) for part in _PARTS):
                least = wanted

    def hasten(self) -> None:
        """Search for faster plans that need no more than the best one."""
        bounds = lower_bounds(
            self.table, tuple(cut.compute_seconds.max(axis=1, initial=0.0) for cut in self.table.cuts)
        )
        prices = Prices(np.append(np.zeros(self.devices), 1.0), bounds.by_cut())
        sweep = ResourceSweep(self.table, self.uses, [prices])
        least = bounds.best()
        for _ in range(_STEPS):
            before = self.best.predicted_seconds
            if before - least <= _GOOD_ENOUGH * before:
                break
            wanted = (least + before) / 2
            needs = memory_needs(self.graph, self.best.segments, self.devices)
            activations = np.array([need.activations for need in needs]) / self.room
            self._run(sweep, self.largest, activations, wanted)
            if self.best.predicted_seconds >= before:
                least = wanted

    def _consider(self, plan: Plan) -> None:
        largest = self._largest(plan)
        if largest < self.largest or (largest == self.largest and plan.predicted_seconds < self.best.predicted_seconds):
            self.largest, self.best = largest, plan

    def _largest(self, plan: Plan) -> float:
        needs = memory_needs(self.graph, plan.segments, self.devices)
        return largest_part(needs, self.room)

    def _search(self, wanted: float, part: float) -> bool:
        """Search for a plan that needs at most a part of each device's memory, a part of which goes to activations.
        Returns whether one was found."""
        activations = np.full(self.devices, wanted * part)
        for _ in range(1 + _CORRECTIONS):
            plan = self._run(self.sweep, wanted, activations, _ENDLESS)
            if plan is None or self.largest <= wanted:
                return plan is not None
            needs = memory_needs(self.graph, plan.segments, self.devices)
            activations = np.array([need.activations for need in needs]) / self.room
        return False

    def _run(self, sweep: ResourceSweep, largest: float, activations: Array, seconds: float) -> Plan | None:
        """Search for a plan that needs at most `largest` of each device's memory, of which a part ([n]) goes to
        activations."""
        finite = np.isfinite(self.room)
        limits = np.where(finite, activations * np.where(finite, self.room, 0.0), np.inf)
        allowed = [np.asarray((least <= limits).all(axis=1), dtype=np.bool_) for least in self.activations]
        way = sweep.run(np.append(np.maximum(largest - activations, 0.0), seconds), allowed)
        if way is None:
            return None
        plan = evaluate(self.graph, self.cluster, merged(way.segments), self.model)
        self._consider(plan)
        return plan


def _without_repeats(graph: LayerGraph, nbytes: float, devices: int) -> float:
    """What is left at least of bytes of weights, summed over layers and devices, where a weight that several layers
    read counts only once on each device."""
    readers = Counter(name for layer in graph.layers for name in set(layer.consumed) if name in graph.weights)
    repeats = sum((count - 1) * graph.tensors[name].nbytes for name, count in readers.items())
    return max(nbytes - devices * repeats, nbytes / max(readers.values(), default=1))


def _weights_onward(table: CostTable) -> Array:
    """Bytes of weights that the segments from each cut on take together at least, [cuts]."""
    least = np.full(len(table.cuts), np.inf)
    least[-1] = 0.0
    for position in range(len(table.cuts) - 2, -1, -1):
        cut = table.cuts[position]
        least[position] = (cut.weight_bytes.sum(axis=1) + least[cut.stop]).min()
    return least


def _least_activations(table: CostTable, position: int) -> Array:
    """Bytes of activations that each device must hold at some moment of each segment that begins at a cut, at least:
    what it needs, or what it has computed of the results, [N, devices]."""
    cut, devices = table.cuts[position], table.growth.devices
    needed = np.zeros((len(cut.stop), devices))
    for slot, number in enumerate(cut.kinds):
        asked = np.nonzero(cut.needs[:, slot] != NOTHING)[0]
        needed[asked] += table.kinds[number].bytes_at(cut.needs[asked, slot])[:, :devices]
    computed = np.zeros_like(needed)
    for stop in np.unique(cut.stop):
        after, rows = table.cuts[stop], np.nonzero(cut.stop == stop)[0]
        for slot, (number, producer) in enumerate(zip(after.kinds, after.producers, strict=True)):
            if producer >= position:
                holdings = after.holdings[cut.choice[rows], slot]
                layouts = [table.kinds[number].holdings[holding].held[0] for holding in holdings.tolist()]
                computed[rows] += table.kinds[number].bytes_at(np.array(layouts, dtype=np.int64))[:, :devices]
    return np.maximum(needed, computed)


def _largest_moment(table: CostTable, activations: Sequence[Array]) -> float:
    """Bytes of activations that any plan must hold on all devices together, each device at its own worst moment."""
    least = np.full(len(table.cuts) - 1, np.inf)
    """Of the segments that run each layer."""
    for position, held in enumerate(activations[:-1]):
        until = np.full(len(table.cuts), np.inf)
        np.minimum.at(until, table.cuts[position].stop, held.sum(axis=1))
        longer = np.minimum.accumulate(until[::-1])[::-1]  # of the segments that end at a cut or behind it
        least[position:] = np.minimum(least[position:], longer[position + 1 :])
    return float(least.max(initial=0.0))
