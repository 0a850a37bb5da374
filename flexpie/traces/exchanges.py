"""Collects exchange samples: drawn patterns, measured between the workers of a calibrated cluster."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Container, Iterable, Sequence

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.routes import all_ways
from flexpie.planner.cost import Array
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.routes import Routes
from flexpie.traces.patterns import Pattern
from flexpie.traces.samples import ExchangeSample
from flexpie.traces.timing import ExchangeTimer
from flexpie.traces.traffic import cluster_text, configuration_of, traffic_text
from flexpie.traces.workers import Workers

BATCH_SECONDS = 0.3
BATCHES = 5
TOGETHER = 6
"""Patterns in one program."""
LONGEST_SECONDS = 0.15
"""An exchange that is predicted to take longer is left out: time is better spent on several others."""
EVEN = 1.2
"""Ratio of speeds up to which devices may take turns in a scatter."""


async def collect_exchanges(
    workers: Workers,
    place: str,
    patterns: Iterable[Pattern],
    finished: Container[tuple[str, str]] = (),
    batch_seconds: float = BATCH_SECONDS,
    batches: int = BATCHES,
) -> AsyncIterator[list[ExchangeSample]]:
    """Measure patterns on the workers' cluster, some at a time, for as long as there are any.

    Parameters
    ----------
    place: name of this cluster in the samples, which no other one has.
    finished: keys (place and configuration) of what need not be measured.

    Raises ``INVALID_CLUSTER`` for a cluster that was not calibrated; FlexPieError when a worker fails or is lost.
    """
    cluster = workers.cluster
    _check_calibrated(cluster)
    wanted = (
        pattern
        for pattern in patterns
        if _worth_while(cluster, pattern) and (place, _configuration(cluster, pattern)) not in finished
    )
    timer = ExchangeTimer.of(workers, range(len(cluster.devices)), batch_seconds, batches)
    while group := list(itertools.islice(wanted, TOGETHER)):
        yield await _measure(timer, place, group)


async def _measure(timer: ExchangeTimer, place: str, patterns: Sequence[Pattern]) -> list[ExchangeSample]:
    """Measure some patterns; one that cannot be told from nothing is left out."""
    rounds = {}
    for at, pattern in enumerate(patterns):
        rounds[f"{at}"] = pattern.round
        if pattern.beside:
            rounds[f"{at} beside"] = pattern.beside
    timed = await timer.time(rounds)
    found = []
    for at, pattern in enumerate(patterns):
        observer = pattern.devices[0]
        beside = timed.get((observer, f"{at} beside"))
        besides = float(np.median(beside)) / len(pattern.beside) if beside else 0.0
        seconds = [(of_round - besides) / pattern.repeats for of_round in timed[observer, f"{at}"]]
        if min(seconds) > 0:
            found.append(sample_of(timer.workers.cluster, place, pattern, seconds))
    return found


def sample_of(cluster: Cluster, place: str, pattern: Pattern, seconds: Sequence[float]) -> ExchangeSample:
    """The sample of a pattern of which each batch took so many seconds per exchange."""
    nbytes = traffic_of(cluster, pattern)
    load = Routes(cluster).load(nbytes)
    ways = all_ways(cluster)
    p10, median, p90 = (float(value) for value in np.quantile(seconds, (0.1, 0.5, 0.9)))
    return ExchangeSample(
        configuration=_configuration(cluster, pattern),
        device=place,
        pattern=pattern.name,
        topology=cluster.topology.value,
        devices=len(pattern.devices),
        hops=max(len(ways[message.source, message.destination]) - 1 for message in pattern.exchange),
        messages=int(load.sent.sum()),
        total_bytes=int(load.handled_bytes.sum()) // 2,
        most_messages=int((load.sent + load.received).max()),
        most_bytes=int(load.handled_bytes.max()),
        physics_seconds=float(PhysicsCostModel(cluster).exchange_seconds(nbytes)),
        traffic=traffic_text(nbytes),
        cluster=cluster_text(cluster),
        seconds=median,
        seconds_p10=p10,
        seconds_p90=p90,
        repeats=len(seconds),
    )


def traffic_of(cluster: Cluster, pattern: Pattern) -> Array:
    """Bytes from each device to each other one; shape [n + 1, n + 1], the master last."""
    nbytes = np.zeros((len(cluster.devices) + 1,) * 2)
    for message in pattern.exchange:
        nbytes[message.source, message.destination] += message.nbytes
    return nbytes


def _configuration(cluster: Cluster, pattern: Pattern) -> str:
    return configuration_of(pattern.name, cluster.topology, traffic_text(traffic_of(cluster, pattern)))


def _worth_while(cluster: Cluster, pattern: Pattern) -> bool:
    """Whether it does not take too long, and measures one thing: devices that take turns must be about equal."""
    if PhysicsCostModel(cluster).exchange_seconds(traffic_of(cluster, pattern)) > LONGEST_SECONDS:
        return False
    speeds = [cluster.devices[device].speed for device in pattern.devices]
    takes_turns = len(pattern.round) > 1 or pattern.beside
    return not takes_turns or max(speeds) <= EVEN * min(speeds)


def _check_calibrated(cluster: Cluster) -> None:
    missing = [device.name for device in cluster.devices if device.measured is None]
    if missing:
        raise FlexPieError(
            ErrorCode.INVALID_CLUSTER,
            f"{', '.join(missing)}: not calibrated, so nothing tells what the exchanges of a trace are measured on.",
            "Run `flexpie calibrate` first.",
        )
