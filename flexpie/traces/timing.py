"""Times exchanges between workers: how much longer a round of work and exchanges takes than the work alone."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flexpie.compiler import Blob
from flexpie.core.routes import all_ways
from flexpie.traces.kernel_works import kernel_work
from flexpie.traces.programs import Cycle, Exchange, Work, exchange_seconds, exchanging
from flexpie.traces.workers import Durations, Workers

PROBE_ROUNDS, PROBE_BATCHES = 5, 3
"""Of each exchange, to tell how many rounds make a batch."""
MOST_ROUNDS = 400
"""In a batch: a program must not become huge because a probe was too short for the clock."""
TIMEOUT_SECONDS = 300.0
WORK_KERNEL = ("depthwise", 1)
"""What devices compute between two exchanges: without it, they would be measured waiting for the network."""


@dataclass(frozen=True)
class ExchangeTimer:
    """Times exchanges between some workers of a cluster."""

    workers: Workers
    devices: Sequence[int]
    """Indices of the devices that take part."""
    work: Work
    blobs: Mapping[str, Blob]
    """Of the work."""
    batch_seconds: float
    """Must be long against the period of a CPU quota."""
    batches: int

    @classmethod
    def of(cls, workers: Workers, devices: Sequence[int], batch_seconds: float, batches: int) -> ExchangeTimer:
        """A timer with the usual work between exchanges."""
        return cls(workers, devices, *kernel_work(*WORK_KERNEL), batch_seconds, batches)

    async def time(self, rounds: Mapping[str, Sequence[Exchange]]) -> Mapping[tuple[int, str], list[float]]:
        """Seconds of the exchanges of a round, of each batch, as each device sees it, by device and label.

        `rounds` are, by label, exchanges one after another.
        """
        cycles = [
            Cycle(label, tuple(exchanges), PROBE_ROUNDS, PROBE_BATCHES, tuple(self.devices))
            for label, exchanges in rounds.items()
        ]
        probed = await self.play(cycles)
        cycles = [
            dataclasses.replace(
                cycle,
                rounds=rounds_of(
                    self.batch_seconds,
                    max(statistics.median(probed[device, cycle.label]) for device in self.devices),
                    MOST_ROUNDS,
                ),
                batches=self.batches,
            )
            for cycle in cycles
        ]
        durations = await self.play(cycles)
        return {
            (device, cycle.label): exchange_seconds(durations, cycle, device)
            for cycle in cycles
            for device in self.devices
        }

    async def play(self, cycles: Sequence[Cycle]) -> Durations:
        """Run cycles as they are."""
        count = len(self.workers.cluster.devices)
        works = dict.fromkeys(self.devices, self.work)
        measurement = exchanging(cycles, works, count, all_ways(self.workers.cluster))
        return await self.workers.measure(measurement, self.blobs, TIMEOUT_SECONDS)


def rounds_of(batch_seconds: float, round_seconds: float, most: int) -> int:
    """Rounds that make a batch of so many seconds, at least 1 and at most `most`."""
    return max(1, min(most, round(batch_seconds / max(round_seconds, 1e-9))))
