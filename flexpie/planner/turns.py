"""The plan of devices that take turns: each has the whole model and answers requests alone (`flexpie.core.turns`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import DATA_PARALLEL
from flexpie.core.turns import turns
from flexpie.planner.budget import exceeding
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.evaluation import evaluate, plan_in_turn, plans_alone
from flexpie.planner.memory import memory_needs
from flexpie.planner.occupation import Occupations

_EVEN = 0.999
"""Devices that all answer as many requests as they could alone are preferred to parts that answer hardly more."""
_LEAST = 1e-3
"""A device with less than this part of another one's requests takes no turn."""


def data_parallel_plan(graph: LayerGraph, cluster: Cluster, model: CostModel) -> Plan:
    """The whole model on every device that has the memory for it, or on all where none has; each answers such a part
    of the requests that together they answer the most. With its predicted costs."""
    if not graph.layers:
        return evaluate(graph, cluster, (), model)
    alone, devices = plans_alone(graph, cluster, model), len(cluster.devices)
    fits = [not exceeding(cluster, memory_needs(graph, plan.segments, devices)) for plan in alone]
    taking_part = [device for device, fit in enumerate(fits) if fit or not any(fits)]
    occupations = Occupations(cluster, model)
    busy = np.array([np.stack(occupations.of_plan(graph, alone[device]).by_kind) for device in taking_part])
    rates = _rates(busy, taking_part)
    shares = np.zeros(devices)
    shares[taking_part] = np.where(rates < _LEAST * rates.max(), 0.0, rates / rates.max())
    segments = (Segment(0, len(graph.layers), DATA_PARALLEL, tuple(shares.tolist())),)
    return plan_in_turn(alone, segments, turns(segments))


def _rates(busy: Array, devices: Sequence[int]) -> Array:
    """Requests per second of each device, shape [k], as many as possible together.

    `busy` says for how long a request of each keeps every processor and port busy, [k, 3, n + 1]; the last end is the
    master, which all share.
    """
    own = np.array([busy[at, :, device].max() for at, device in enumerate(devices)])
    even = 1 / np.maximum(own, 1e-12)
    even /= max(1.0, float(np.tensordot(even, busy, 1).max()))
    found = _most(busy.reshape(len(busy), -1))
    return even if even.sum() >= _EVEN * found.sum() else found


def _most(busy: Array) -> Array:
    """The rates with the largest sum that keep no resource busy for more than all the time; `busy` is [k, R]."""
    from scipy.optimize import linprog

    scale = float(busy.max()) or 1.0
    used = busy.T[busy.any(axis=0)] / scale
    if not len(used):
        return np.ones(len(busy))
    answer = linprog(-np.ones(len(busy)), A_ub=used, b_ub=np.ones(len(used)), method="highs")
    rates: Array = np.maximum(answer.x, 0.0) / scale
    return rates
