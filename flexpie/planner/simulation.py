"""Simulates a plan: when each device computes, sends, receives and waits, and so how long a request takes.

It follows the programs (`flexpie.planner.schedule`) as workers and master run them: a device sends what others need
before it waits, and waits only for the messages that its next step reads, never for a barrier. docs/simulation.md says
what is modelled and what is left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.planner.cost import CostModel
from flexpie.planner.schedule import Schedule, schedule
from flexpie.planner.simulator import Simulator
from flexpie.planner.timeline import DeviceTime, Span


@dataclass(frozen=True)
class Simulation:
    """What came of a simulation."""

    latencies: tuple[float, ...]
    """Seconds from a client's asking to its being answered, per request in the order in which they began; with one
    request, what it is predicted to take."""
    makespan: float
    """Seconds until the last request was answered."""
    times: tuple[tuple[DeviceTime, ...], ...]
    """``times[segment][device]``, the mean over the requests; one row more than there are segments, for what happens
    until the outputs are gathered. A device's column adds up to the mean latency."""
    spans: tuple[Span, ...]
    """In the order in which they were begun or ended."""

    @property
    def latency(self) -> float:
        """Mean seconds per request."""
        return math.fsum(self.latencies) / len(self.latencies)

    @property
    def throughput(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.makespan if self.makespan > 0 else math.inf

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the requests do not exceed (nearest rank); `percent` is above 0."""
        return sorted(self.latencies)[math.ceil(percent / 100 * len(self.latencies)) - 1]

    def per_device(self, device: int) -> DeviceTime:
        """A device's time for one request, over all segments."""
        return sum((row[device] for row in self.times), DeviceTime())

    def utilisation(self, device: int) -> float:
        """The part of the makespan in which a device's processor works."""
        time = self.per_device(device)
        busy = (time.computing + time.sending) * len(self.latencies)
        return busy / self.makespan if self.makespan > 0 else 0.0


def simulate(
    graph: LayerGraph,
    cluster: Cluster,
    segments: Sequence[Segment],
    cost_model: CostModel,
    *,
    requests: int = 1,
    in_flight: int = 1,
    jitter: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """Run requests through a plan's segments.

    Parameters
    ----------
    requests: how many, 1 or more.
    in_flight: how many of them are under way at once; another one begins whenever one is answered.
    jitter: standard deviation of the logarithm of a factor of mean 1, drawn for each computing and each transfer.
    seed: of the jitter; equal seeds give equal results.
    """
    steps = schedule(graph, cluster, segments, cost_model)
    return simulate_schedule(
        steps, cluster, cost_model, requests=requests, in_flight=in_flight, jitter=jitter, seed=seed
    )


def simulate_schedule(
    steps: Schedule,
    cluster: Cluster,
    cost_model: CostModel,
    *,
    requests: int = 1,
    in_flight: int = 1,
    jitter: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """`simulate`, for steps that are there already."""
    simulator = Simulator(steps, cluster, cost_model.messages, _noise(jitter, seed))
    simulator.run(requests, in_flight)
    ended = [simulator.ended[request] for request in range(requests)]
    return Simulation(
        latencies=tuple(end - begin for begin, end in zip(simulator.begun, ended, strict=True)),
        makespan=max(ended),
        times=tuple(tuple(time * (1 / requests) for time in row) for row in simulator.times),
        spans=tuple(simulator.spans),
    )


def _noise(jitter: float, seed: int) -> Callable[[], float]:
    if jitter == 0:
        return lambda: 1.0
    source = random.Random(seed)
    return lambda: math.exp(source.gauss(-jitter * jitter / 2, jitter))
