"""Drift: whether devices and links are still as fast as the plan that runs on them assumes, told from its requests.

Pure: samples in, factors out. Two things are compared with what they were when the plan was new, not with absolute
predictions, so that a cost model that is wrong by the same factor everywhere causes nothing:

- what a device computes for a request, in seconds;
- what messages between two ends take (`flexpie.master.transit`).

A device must differ from what the plan assumes as well, by what all devices together tell of its predictions: one whose
processor rested before the first requests was faster than it can stay, and has not become slow when that is over.

Samples are noisy, mostly upwards: a process waits for its processor. So a low quantile of the last ones counts, and
nothing is concluded from few.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flexpie.master.events import DeviceName
from flexpie.master.transit import Message, Pair, Transit, transits

BASELINE_SAMPLES = 15
"""So many of the first samples say how things are with a new plan."""
RECENT_SAMPLES = 12
"""So many of the last ones say how they are now."""
NOISE_SECONDS = 2e-3
"""Differences of this much are nothing to act upon."""
COMPARED_NOISE_SECONDS = 3 * NOISE_SECONDS
"""The same where clocks were compared by other messages, with the noise of these."""
LEAST_FACTOR = 1.5
"""What is less than so many times slower, or faster, is as it was."""
COMPUTE_FACTOR = 2.0
"""The same for computing: a processor that has waited for messages is faster for a while, as it is cooler or, under a
quota, has some of it left, and slower where messages come in meanwhile."""


FEW_BYTES = 8
"""Messages of so many times fewer bytes than others say nothing of a port's bandwidth."""
MOST_LINKS = 0.5
"""Where more than this part of an end's links has drifted, it is the end's port."""


_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Sample:
    """One request, as all that took part tell it."""

    compute_seconds: Mapping[DeviceName, float]
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Drift:
    """How the cluster differs from what the plan assumes."""

    slowdowns: Mapping[DeviceName, float] = field(default_factory=dict)
    """How many times as long a device computes; those that differ only."""
    extra_seconds_per_byte: Mapping[Pair, float] = field(default_factory=dict)
    """What a byte takes more than it did between two ends (less than 0: less), in one direction; those that differ
    only."""
    ports: Mapping[DeviceName, float] = field(default_factory=dict)
    """The same of all links of one end, those that no message told of included: it is the end's port that differs."""

    def __bool__(self) -> bool:
        return bool(self.slowdowns or self.extra_seconds_per_byte or self.ports)

    def is_more_than(self, other: Drift) -> bool:
        """Whether something has drifted here and not there, or by `LEAST_FACTOR` more."""
        slowdowns = (
            (max(factor, 1 / factor), other.slowdowns.get(device, 1.0)) for device, factor in self.slowdowns.items()
        )
        if any(here > LEAST_FACTOR * max(there, 1 / there) for here, there in slowdowns):
            return True
        return _is_more(self.extra_seconds_per_byte, other.extra_seconds_per_byte) or _is_more(self.ports, other.ports)


class DriftMonitor:
    """Watches one deployment from its first request to its last."""

    def __init__(self) -> None:
        self._compute: dict[DeviceName, _Series] = {}
        self._links: dict[Pair, _Series] = {}
        self._transits: dict[Pair, Transit] = {}
        """The last ones."""

    def observe(self, sample: Sample) -> None:
        """Take in one request."""
        for device, seconds in sample.compute_seconds.items():
            self._compute.setdefault(device, _Series(factor=COMPUTE_FACTOR)).add(seconds)
        for pair, transit in transits(sample.messages).items():
            known = self._transits.get(pair)
            if known is None or (known.way and not transit.way):  # it needs no other to be compared after all
                self._links[pair] = _Series(COMPARED_NOISE_SECONDS if transit.way else NOISE_SECONDS)
            elif known.way != transit.way:
                continue  # clocks were compared in another way
            self._transits[pair] = transit
            self._links[pair].add(transit.seconds)

    def drift(self, predicted: Mapping[DeviceName, float] | None = None) -> Drift:
        """What is different since the plan was new, as far as samples tell. `predicted` are the seconds that devices
        were to compute."""
        slowdowns = self._slowdowns(predicted or {})
        drifted = [pair for pair, series in self._links.items() if series.drifted and self._believed(pair)]
        by_port: dict[DeviceName, dict[Pair, float]] = {}
        """What a byte takes more."""
        for pair in drifted:
            port = self._port(pair, drifted)
            nbytes = self._transits[pair].nbytes[port]
            if nbytes > 0:
                by_port.setdefault(port, {})[pair] = self._links[pair].extra / nbytes
        ports: dict[DeviceName, float] = {}
        links: dict[Pair, float] = {}
        for port, extra in by_port.items():
            if len(extra) > 1 and _share(port, extra, self._links) > MOST_LINKS:
                # Messages queue at a port: only the last one of an exchange waits for all bytes. Of few bytes it is
                # not them that are waited for.
                nbytes_of = {pair: self._transits[pair].nbytes[port] for pair in extra}
                most = max(nbytes_of.values())
                ports[port] = max((extra[pair] for pair in extra if nbytes_of[pair] * FEW_BYTES >= most), key=abs)
            else:
                links |= extra
        return Drift(slowdowns, links, ports)

    def _slowdowns(self, predicted: Mapping[DeviceName, float]) -> dict[DeviceName, float]:
        known = {device: series for device, series in self._compute.items() if series.known}
        errors = [series.before / predicted[device] for device, series in known.items() if predicted.get(device)]
        error = statistics.median(errors) if errors else 1.0
        slowdowns = {}
        for device, series in known.items():
            if series.drifted:
                assumed = predicted.get(device, 0.0) * error or series.before
                further = max if series.now > series.before else min
                factor = series.now / further(series.before, assumed)
                if max(factor, 1 / factor) >= COMPUTE_FACTOR:
                    slowdowns[device] = factor
        return slowdowns

    def _believed(self, pair: Pair) -> bool:
        """Whether what a pair takes more cannot come from how its ends' clocks were compared: by messages that have
        drifted themselves, in one direction more than in the other."""
        doubt = sum(abs(self._links[hop].extra) for hop in self._transits[pair].way if self._links[hop].drifted)
        return abs(self._links[pair].extra) > doubt

    def _port(self, pair: Pair, drifted: Collection[Pair]) -> DeviceName:
        """Whose port it is that has become slower: that of the end of whose links the larger part has drifted. It is
        shared by all that passes it; where both ends may be meant, the port that more passes."""
        nbytes = self._transits[pair].nbytes

        def suspicion(end: DeviceName) -> tuple[float, float]:
            return _share(end, drifted, self._links), nbytes[end]

        return max(sorted(pair), key=suspicion)

    def begin_again(self) -> None:
        """Forget all samples but the first ones: the same plan runs again."""
        for series in (*self._compute.values(), *self._links.values()):
            series.begin_again()

    def compute_seconds(self, device: DeviceName) -> float | None:
        """What a device computes for a request now; None if that is not known yet."""
        series = self._compute.get(device)
        return series.now if series and series.known else None


class _Series:
    """One quantity over time: at first, and now."""

    def __init__(self, noise_seconds: float = NOISE_SECONDS, factor: float = LEAST_FACTOR) -> None:
        self._noise_seconds = noise_seconds
        self._factor = factor
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=RECENT_SAMPLES)

    def add(self, seconds: float) -> None:
        if len(self._first) < BASELINE_SAMPLES:
            self._first.append(seconds)
        else:
            self._last.append(seconds)

    def begin_again(self) -> None:
        """Forget all but the first samples."""
        self._last.clear()

    @property
    def known(self) -> bool:
        """Whether there are enough samples."""
        return len(self._last) == RECENT_SAMPLES

    @property
    def before(self) -> float:
        return _typical(self._first)

    @property
    def now(self) -> float:
        return _typical(self._last)

    @property
    def extra(self) -> float:
        """Seconds that it takes more now; less than 0: less."""
        return self.now - self.before

    @property
    def drifted(self) -> bool:
        """Whether it is another one now, beyond noise."""
        if not self.known:
            return False
        before, now = self.before, self.now
        if abs(now - before) < self._noise_seconds:
            return False
        low, high = sorted((max(before, 1e-6), max(now, 1e-6)))
        return high / low >= self._factor


def _is_more(here: Mapping[_Key, float], there: Mapping[_Key, float]) -> bool:
    return any(abs(extra) > LEAST_FACTOR * abs(there.get(key, 0.0)) for key, extra in here.items())


def _share(end: DeviceName, drifted: Collection[Pair], links: Iterable[Pair]) -> float:
    """What part of an end's links has drifted."""
    of_end = [pair for pair in links if end in pair]
    return sum(pair in drifted for pair in of_end) / len(of_end)


def _typical(values: list[float] | deque[float]) -> float:
    """The median of the lowest quarter: waiting for a processor makes samples longer, nothing makes them shorter."""
    ordered = sorted(values)
    return statistics.median(ordered[: max(1, (len(ordered) + 3) // 4)])
