"""For how long a request keeps each processor and port busy: what bounds the requests per second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan
from flexpie.core.turns import plan_of_turn, turns
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.routes import Routes
from flexpie.planner.walk import walked


@dataclass(frozen=True)
class Occupation:
    """Seconds for which one request keeps the resources of each of n devices and, last, of the master busy; arrays of
    shape [n + 1]."""

    processor: Array
    """Computing, and handling messages."""
    outgoing: Array
    """Of the port, for sending."""
    incoming: Array

    @property
    def by_kind(self) -> tuple[Array, Array, Array]:
        """Of processors, outgoing and incoming ports."""
        return self.processor, self.outgoing, self.incoming

    @property
    def period_seconds(self) -> float:
        """Time from one answer to the next where many requests are in flight: the busiest resource never rests."""
        return float(max(busy.max() for busy in self.by_kind))

    @property
    def requests_per_second(self) -> float:
        """The most requests per second; infinite where nothing is busy."""
        return 1 / self.period_seconds if self.period_seconds > 0 else math.inf

    def busiest(self, names: Sequence[str]) -> str:
        """The resource that bounds the requests per second, as users call it; `names` are those of the devices."""
        ends = [*names, "the master"]
        found = {"processor": self.processor, "port (sending)": self.outgoing, "port (receiving)": self.incoming}
        kind = max(found, key=lambda resource: float(found[resource].max()))
        return f"the {kind} of {ends[int(found[kind].argmax())]}"


class Occupations:
    """Says how busy plans and exchanges keep a cluster, where each resource takes up its tasks one after another."""

    def __init__(self, cluster: Cluster, model: CostModel) -> None:
        self._routes, self._costs = Routes(cluster), model.messages

    def of_exchange(self, nbytes: Array) -> Array:
        """Seconds for which exchanges keep each resource busy.

        `nbytes` has shape [..., n + 1, n + 1]; the answer has shape [..., 3, n + 1]: processors, outgoing and incoming
        ports. It is 0 where nothing travels, and more bytes never keep anything busy for less time.
        """
        load, costs = self._routes.load(nbytes), self._costs
        processor = load.sent * costs.send_seconds + load.received * costs.receive_seconds
        processor += load.handled_bytes * costs.seconds_per_byte
        processor += np.where(load.received > 0, costs.start_seconds, 0.0)
        return np.stack((processor, load.outgoing_seconds, load.incoming_seconds), axis=-2)

    def of_plan(self, graph: LayerGraph, plan: Plan) -> Occupation:
        """How busy a plan (with its predicted costs) keeps the cluster; where devices take turns, in the mean."""
        if parts := turns(plan.segments):
            each = [part * self.of_turn(graph, plan, device) for device, part in parts.items()]
            return Occupation(*np.sum(each, axis=0))
        exchanges = walked(graph, len(plan.devices), plan.segments).exchanges
        busy = self.of_exchange(np.stack(exchanges)).sum(axis=0)
        for cost in plan.costs:
            busy[0, :-1] += cost.compute_seconds
        return Occupation(*busy)

    def of_turn(self, graph: LayerGraph, plan: Plan, device: int) -> Array:
        """How busy a request keeps the cluster that is a device's turn; shape [3, n + 1], as of `of_exchange`."""
        return np.stack(self.of_plan(graph, plan_of_turn(plan, device)).by_kind)
