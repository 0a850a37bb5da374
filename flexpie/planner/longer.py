"""A lower bound of all plans, those with segments included that are longer than the ones that were grown.

Growth gives some chains up, so that tables stay small (`flexpie.planner.growing`). What a longer segment of such a
chain costs at least is known: the computing of the longest that was grown and, where some devices need everything in
front of it, of the layers there that they compute whole. The exchange in front of it counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flexpie.planner.bounds import final_seconds
from flexpie.planner.boxes import Indices, Mask
from flexpie.planner.chains import ANYBODY
from flexpie.planner.cost import Array
from flexpie.planner.layouts import NOTHING
from flexpie.planner.table import CostTable


def bound_with_longer(table: CostTable, steps: Sequence[Array]) -> float:
    """No plan costs less, whatever its segments are.

    Parameters
    ----------
    steps: what each segment costs at least with its exchange, by the candidate in front, [K, N] per cut; see
        `flexpie.planner.bounds.step_seconds`.
    """
    growth, last = table.growth, len(table.cuts) - 1
    deputies = np.array([growth.deputy(number) for number in range(len(growth.sets))], dtype=np.int64)
    layers, onward = _whole_layers(table, deputies), final_seconds(table)
    whole = np.full(len(deputies), np.inf)
    """Least cost from a cut on in a segment of a chain that was given up behind it, by the set of devices that needs
    all of everything at the cut."""
    partly = math.inf
    """The same where a set may need less, or is not known."""
    for position in range(last - 1, -1, -1):
        if position + 1 < last:
            fresh, unknown = _given_up(table, position + 1, onward, deputies)
            whole, partly = np.minimum(whole, fresh), min(partly, unknown)
        seconds, reads_all = layers[position]
        whole = whole + seconds
        partly = min(partly, float(np.where(reads_all, np.inf, whole).min(initial=math.inf)))
        whole = np.where(reads_all, whole, np.inf)
        behind = (steps[position] + onward[table.targets[position]]).min(axis=1)
        onward[table.of_cut(position)] = np.minimum(behind, min(partly, float(whole.min(initial=math.inf))))
    return float(onward[0])


def _given_up(table: CostTable, position: int, onward: Array, deputies: Indices) -> tuple[Array, float]:
    """Least cost of the longest segments of chains that were given up at a cut and of all behind them, by the set of
    devices that needs everything there, [sets], and of those without such a set."""
    found, unknown = np.full(len(deputies), np.inf), math.inf
    chains, rows = table.grown.chains, table.grown.rows[position].chains
    ended = np.nonzero((chains.first[rows] == position) & (chains.given_up[rows] != NOTHING))[0]
    if len(ended):
        sets, seconds = chains.given_up[rows[ended]], table.cuts[position].compute_seconds[ended]
        behind = onward[table.targets[position][ended]]
        known = sets != ANYBODY
        # What a set computes in front is known of its deputy alone: so the deputy's time counts here, too.
        own = seconds[known, deputies[sets[known]]] + behind[known]
        np.minimum.at(found, sets[known], own)
        unknown = float((seconds.max(axis=1) + behind)[~known].min(initial=math.inf))
    return found, unknown


def _whole_layers(table: CostTable, deputies: Indices) -> list[tuple[Array, Mask]]:
    """Per layer, for each set of devices that computes all of it: its deputy's seconds, and whether all of what the
    layer reads is needed, both [sets]."""
    growth, steps = table.growth, table.growth.steps
    seconds, sets = growth.whole_seconds, np.arange(len(deputies))
    found = []
    for layer, activations in enumerate(steps.activations):
        needed = steps.of_layer(layer).needed[growth.whole_steps(layer)]
        reads_all = np.ones(len(deputies), dtype=np.bool_)
        for slot, name in enumerate(activations):
            reads_all &= needed[:, slot] == growth.wholes(name)
        found.append((seconds[layer, sets, deputies], reads_all))
    return found
