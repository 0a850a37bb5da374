"""Calibration: what a cluster's devices and links can do, measured through the workers.

The same formulas as in `flexpie.planner.physics`, solved for the rates: a device that keeps to them is predicted as it
was measured. Devices compute all at the same time, and each sends messages to itself, which costs its processor what
messages cost and passes no link. Then pairs of devices exchange messages.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flexpie.compiler import Blob
from flexpie.compiler.kernels import KERNELS, LONG, SHORT
from flexpie.core.cluster import Cluster, Link
from flexpie.core.rates import REFERENCE_RATES, DeviceRates
from flexpie.core.routes import all_ways
from flexpie.master.calibration_file import Calibration, DeviceCalibration
from flexpie.traces.kernel_works import kernel_work
from flexpie.traces.kernels import computing_rates
from flexpie.traces.programs import (
    Cycle,
    Exchange,
    Measurement,
    Message,
    computing,
    exchange_seconds,
    streaming,
)
from flexpie.traces.timing import PROBE_BATCHES, PROBE_ROUNDS, TIMEOUT_SECONDS, ExchangeTimer, rounds_of
from flexpie.traces.workers import Durations, Workers

KERNEL_PROBE_ROUNDS, KERNEL_PROBE_BATCHES = 2, 3
"""Of each kernel, to tell how many rounds make a batch."""
MOST_KERNEL_ROUNDS = 2000
SMALL_BYTES = 64
LARGE_BYTES = 1_000_000
"""Of a device's message to itself."""
LATE_KERNEL = ("dense", 1)
"""What devices compute before an exchange of all: about what they do in a segment of a plan."""
SEVERAL = 4
"""Messages at once."""
PROBE_BYTES = 50_000
LINK_SECONDS = 0.25
"""What an exchange with a large message may take, as far as the probe can tell."""
MOST_LINK_BYTES = 4_000_000
"""On a gigabit link 32 ms. A device with a CPU quota is faster after a wait, by what it has not used of a period."""
STREAMED = 150
"""Messages in a batch of a stream."""
CONFIRMED = 0.3
"""By so much a bandwidth may seem less than the cluster file says: it is noise."""
LEAST_SECONDS = 1e-5
"""No latency, and no difference between two exchanges, is taken for less."""

_LEAST = 0.05
"""Share of the reference core's cost, scaled by a device's speed, below which noise has won over a measurement."""
_HIDDEN = 0.2
"""Share of an exchange's time that a link must take to be seen beside the processors."""


@dataclass(frozen=True)
class Effort:
    """How long everything is measured. A batch must be long against the period of a CPU quota."""

    kernel_batch_seconds: float = 0.1
    kernel_batches: int = 4
    batch_seconds: float = 0.25
    """Of exchanges."""
    batches: int = 4


DEFAULT_EFFORT = Effort()

Report = Callable[[str, int, int], None]
"""Told what is measured now, how many steps are done, and how many there are."""


async def calibrate(
    workers: Workers, measured_at: str, report: Report = lambda *_: None, effort: Effort = DEFAULT_EFFORT
) -> Calibration:
    """Measure every device of the workers' cluster, and every link between two neighbours.

    `measured_at` is the date and time for the file. Raises FlexPieError when a worker fails or is lost.
    """
    cluster = workers.cluster
    matches = tuple(_matches(_neighbours(cluster)))
    timer = ExchangeTimer.of(workers, range(len(cluster.devices)), effort.batch_seconds, effort.batches)
    bench = _Bench(workers, effort, timer)
    total = 2 + len(matches) + bool(matches)
    report("devices: computing", 0, total)
    computed = {device: _computing_rates(seconds) for device, seconds in (await bench.kernels()).items()}
    report("devices: messages", 1, total)
    rates = await bench.message_rates(computed)
    links: dict[tuple[str, str], Link] = {}
    for at, pairs in enumerate(matches):
        report("links: " + ", ".join(f"{cluster.devices[a].name} ↔ {cluster.devices[b].name}" for a, b in pairs),
               2 + at, total)  # fmt: skip
        links.update(await bench.links(pairs, rates))
    if links:
        report("links: all at once", total - 1, total)
        late = await bench.lateness(rates, links)
        links = {way: replace(link, latency_seconds=link.latency_seconds + late) for way, link in links.items()}
    report("", total, total)
    devices = tuple(
        DeviceCalibration(device.name, device.address, max(1, workers.threads[device.name]), rates[index])
        for index, device in enumerate(cluster.devices)
    )
    return Calibration(measured_at, devices, links)


def _computing_rates(seconds: Mapping[str, tuple[float, float]]) -> DeviceRates:
    """Rates of a device whose kernels were measured; those of messages are the reference core's, as much slower or
    faster as the device is in starting operators."""
    computed = computing_rates(seconds, REFERENCE_RATES)
    messages = REFERENCE_RATES.scaled(computed.matrix_flops_per_second / REFERENCE_RATES.matrix_flops_per_second)
    names = ("send_seconds", "receive_seconds", "end_seconds_per_byte", "start_seconds")
    return replace(computed, **{name: getattr(messages, name) for name in names})


@dataclass(frozen=True)
class _Bench:
    """Runs measurements on the workers and solves for what they tell."""

    workers: Workers
    effort: Effort
    timer: ExchangeTimer

    @property
    def devices(self) -> range:
        """Indices of all devices."""
        return range(len(self.workers.cluster.devices))

    # Computing.

    async def kernels(self) -> Mapping[int, Mapping[str, tuple[float, float]]]:
        """By device and kernel: seconds of a run of its short and of its long chain."""
        works, blobs = {}, {}
        for kernel, steps in itertools.product(KERNELS, (SHORT, LONG)):
            works[f"{kernel} {steps}"], found = kernel_work(kernel, steps)
            blobs.update(found)
        few = {label: (work, KERNEL_PROBE_ROUNDS) for label, work in works.items()}
        probe = computing(dict.fromkeys(self.devices, few), len(self.devices), KERNEL_PROBE_BATCHES)
        probed = await self._measure(probe, blobs)
        seconds = self.effort.kernel_batch_seconds
        rounds = {
            device: {
                label: (work, rounds_of(seconds, _typical(probed[device, label]), MOST_KERNEL_ROUNDS))
                for label, work in works.items()
            }
            for device in self.devices
        }
        measured = await self._measure(computing(rounds, len(self.devices), self.effort.kernel_batches), blobs)
        return {
            device: {
                kernel: (
                    _typical(measured[device, f"{kernel} {SHORT}"]),
                    _typical(measured[device, f"{kernel} {LONG}"]),
                )
                for kernel in KERNELS
            }
            for device in self.devices
        }

    # Messages.

    async def message_rates(self, computed: Mapping[int, DeviceRates]) -> Mapping[int, DeviceRates]:
        """The rates with those of messages measured: of a device to itself, and of one to the master."""
        stream = streaming(self.devices, len(self.devices), STREAMED, self.effort.kernel_batches)
        streamed = await self._measure(stream, {})
        kinds = {"one": (SMALL_BYTES, 1), "several": (SMALL_BYTES, SEVERAL), "large": (LARGE_BYTES, 1)}
        exchanges = {
            label: (tuple(Message(device, device, nbytes) for device in self.devices for _ in range(count)),)
            for label, (nbytes, count) in kinds.items()
        }
        seconds = await self._exchanges(exchanges)
        return {
            device: _message_rates(
                rates, *(seconds[device, label] for label in kinds), send=_typical(streamed[device, "send"])
            )
            for device, rates in computed.items()
        }

    async def links(
        self, pairs: Sequence[tuple[int, int]], rates: Mapping[int, DeviceRates]
    ) -> Mapping[tuple[str, str], Link]:
        """The links between pairs of devices, of which none is in two pairs; both directions of each."""
        firsts = [first for first, _ in pairs]
        probe = Cycle("probe", _in_turn(pairs, PROBE_BYTES, PROBE_BYTES), PROBE_ROUNDS, PROBE_BATCHES, tuple(firsts))
        durations = await self.timer.play([probe])
        probed = max(_typical(exchange_seconds(durations, probe, first)) for first in firsts) / 2
        nbytes = max(PROBE_BYTES, min(MOST_LINK_BYTES, int(PROBE_BYTES * LINK_SECONDS / max(probed, 1e-4))))
        exchanges = {
            "small": _in_turn(pairs, SMALL_BYTES, SMALL_BYTES),
            "there": _in_turn(pairs, nbytes, SMALL_BYTES),
            "back": _in_turn(pairs, SMALL_BYTES, nbytes),
        }
        seconds = await self._exchanges(exchanges)
        cluster = self.workers.cluster
        names = [device.name for device in cluster.devices]
        found = {}
        for first, second in pairs:
            for source, destination, label in ((first, second, "there"), (second, first, "back")):
                way = names[source], names[destination]
                ends = rates[first], rates[second]
                link = _link(ends, seconds[first, "small"], seconds[first, label], nbytes)
                found[way] = _confirmed(cluster.between(*way), link)
        return found

    async def lateness(self, rates: Mapping[int, DeviceRates], links: Mapping[tuple[str, str], Link]) -> float:
        """Seconds by which an exchange of all devices that compute before it ends later than its messages tell: they
        compute for unlike times, and a device under a CPU quota may have to wait for its next period to go on."""
        names = [device.name for device in self.workers.cluster.devices]
        latencies = {
            (a, b): links[names[a], names[b]].latency_seconds
            for a, b in itertools.permutations(self.devices, 2)
            if (names[a], names[b]) in links
        }
        work, blobs = kernel_work(*LATE_KERNEL)
        timer = replace(self.timer, work=work, blobs=blobs)
        timed = await timer.time({"all": (tuple(Message(*way, SMALL_BYTES) for way in latencies),)})
        return _lateness(rates, latencies, {device: _typical(timed[device, "all"]) for device in self.devices})

    async def _exchanges(self, exchanges: Mapping[str, Sequence[Exchange]]) -> Mapping[tuple[int, str], float]:
        timed = await self.timer.time(exchanges)
        return {key: _typical(seconds) for key, seconds in timed.items()}

    async def _measure(self, measurement: Measurement, blobs: Mapping[str, Blob]) -> Durations:
        return await self.workers.measure(measurement, blobs, TIMEOUT_SECONDS)


# ------------------------------------------------------------------------------------------------ formulas


def _message_rates(rates: DeviceRates, one: float, several: float, large: float, *, send: float) -> DeviceRates:
    """Rates from seconds of exchanges of a device with itself: of one small message, of several, and of a large one.

    `send` is the time of sending one of many messages. What is so small that noise has won over it is a little.
    """
    both = max((several - one) / (SEVERAL - 1), _LEAST * (rates.send_seconds + rates.receive_seconds))
    sending = min(max(send, 0.2 * both), 0.8 * both)
    return replace(
        rates,
        send_seconds=sending,
        receive_seconds=both - sending,
        start_seconds=max(one - both, _LEAST * rates.start_seconds),
        end_seconds_per_byte=max(
            (large - one) / (2 * (LARGE_BYTES - SMALL_BYTES)), _LEAST * rates.end_seconds_per_byte
        ),
    )


def _link(ends: tuple[DeviceRates, DeviceRates], small: float, large: float, nbytes: int) -> Link:
    """A link from the seconds of messages that its ends send in turn: of two small ones, and with a large one among
    them."""
    # Each end sends one of the two messages, and receives the other and goes on.
    processors = sum(rates.send_seconds + rates.receive_seconds + rates.start_seconds for rates in ends)
    per_byte = max(large - small, LEAST_SECONDS) / (nbytes - SMALL_BYTES)
    on_link = per_byte - max(rates.end_seconds_per_byte for rates in ends)
    return Link(1 / max(on_link, _HIDDEN * per_byte), max((small - processors) / 2, LEAST_SECONDS))


def _lateness(
    rates: Mapping[int, DeviceRates], latencies: Mapping[tuple[int, int], float], seconds: Mapping[int, float]
) -> float:
    """By how much later an exchange ends than its messages tell, in the mean of all devices.

    Parameters
    ----------
    latencies: of the links over which a small message is sent, by source and destination.
    seconds: that the exchange takes, as each device sees it.
    """
    late = []
    for device, measured in seconds.items():
        own, arriving = rates[device], [latency for (_, end), latency in latencies.items() if end == device]
        messages = len(arriving) * (own.send_seconds + own.receive_seconds)
        late.append(measured - messages - own.start_seconds - max(arriving, default=0.0))
    return max(0.0, statistics.fmean(late))


def _confirmed(described: Link, measured: Link) -> Link:
    """What was measured, but with the bandwidth that the cluster file says where that is about the same."""
    ratio = measured.bandwidth_bytes_per_second / described.bandwidth_bytes_per_second
    if 1 - CONFIRMED <= ratio <= 1 / (1 - CONFIRMED):
        return Link(described.bandwidth_bytes_per_second, measured.latency_seconds)
    return measured


def _typical(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


# --------------------------------------------------------------------------------------------------- pairs


def _in_turn(pairs: Sequence[tuple[int, int]], there: int, back: int) -> tuple[Exchange, Exchange]:
    """Each pair sends so many bytes there, and only when they have arrived so many back: a large message on a link must
    not pass while anybody computes what is to be subtracted."""
    return (
        tuple(Message(first, second, there) for first, second in pairs),
        tuple(Message(second, first, back) for first, second in pairs),
    )


def _neighbours(cluster: Cluster) -> list[tuple[int, int]]:
    """Pairs of devices, the smaller index first, with nobody between them."""
    ways = all_ways(cluster)
    devices = range(len(cluster.devices))
    return [pair for pair in itertools.combinations(devices, 2) if len(ways[pair]) == len(ways[pair[::-1]]) == 2]


def _matches(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], ...]]:
    """The pairs in rounds in which nobody is in two of them, as few as a greedy choice finds."""
    left = list(pairs)
    while left:
        busy: set[int] = set()
        chosen = []
        for pair in left:
            if busy.isdisjoint(pair):
                busy.update(pair)
                chosen.append(pair)
        yield tuple(chosen)
        left = [pair for pair in left if pair not in chosen]
