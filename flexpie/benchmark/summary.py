"""What a file of results says: for each cell the latency of each strategy, and how they compare."""

from __future__ import annotations

import statistics as builtin
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flexpie.benchmark import statistics
from flexpie.benchmark.cells import ALONE, OURS, OURS_FLOAT16, Cell, by_information
from flexpie.benchmark.records import Check, Failed, Launch, Planned, Record, Simulated, Traced
from flexpie.benchmark.statistics import Estimate
from flexpie.core.strategy import BASELINES


@dataclass
class CellResult:
    """All that is known of a cell."""

    cell: Cell
    launches: dict[str, list[Launch]] = field(default_factory=dict)
    """By strategy, in the order in which they were made. Noisy ones only where there are no others."""
    planned: dict[str, Planned] = field(default_factory=dict)
    simulated: dict[str, Simulated] = field(default_factory=dict)
    traced: dict[str, Traced] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Reasons, by strategy."""
    check: Check | None = None
    """The last one."""

    @property
    def measured(self) -> bool:
        """Whether figures are of real requests, not of the simulator."""
        return bool(self.launches)

    @property
    def counts(self) -> bool:
        """Whether it was measured on a machine that was quiet, with right answers."""
        made = [launch for launches in self.launches.values() for launch in launches]
        return bool(made) and all(launch.equal and not launch.noisy for launch in made)

    @property
    def mark(self) -> str:
        """What a table says beside the cell."""
        if not self.measured:
            return "simulated"
        made = [launch for launches in self.launches.values() for launch in launches]
        marks = ["noisy"] * any(launch.noisy for launch in made)
        return ", ".join([*marks, *["wrong answer"] * any(not launch.equal for launch in made)])

    @property
    def difference(self) -> float:
        """Of the answers from the unsplit ones, the largest."""
        return max((launch.difference for made in self.launches.values() for launch in made), default=0.0)

    @property
    def strategies(self) -> list[str]:
        """Those that have figures."""
        found = self.launches if self.measured else self.simulated
        return [name for name in (OURS, OURS_FLOAT16, ALONE, *BASELINES) if name in found]

    def seconds(self, strategy: str) -> list[tuple[float, ...]]:
        """Of each request of each launch."""
        return [launch.seconds for launch in self.launches.get(strategy, [])]

    def latency(self, strategy: str) -> Estimate | None:
        """Seconds of a request: the median of the launches' medians, or what was simulated."""
        if self.measured:
            return statistics.median(self.seconds(strategy)) if strategy in self.launches else None
        if strategy in self.simulated:
            return Estimate(*(self.simulated[strategy].seconds,) * 3)
        return None

    def percentile(self, strategy: str, percent: float) -> float:
        """Of all requests of a measured strategy, in seconds."""
        return statistics.percentile([second for made in self.seconds(strategy) for second in made], percent)

    def throughput(self, strategy: str) -> float | None:
        """Requests per second: the median over launches, or what was simulated."""
        if self.measured:
            made = self.launches.get(strategy, [])
            return builtin.median(len(item.seconds) / item.wall_seconds for item in made) if made else None
        return self.simulated[strategy].requests_per_second if strategy in self.simulated else None

    def times_faster(self, strategy: str, than: str) -> Estimate | None:
        """How many times faster `strategy` is: by the time of a request, or, with several in flight, by requests per
        second."""
        if self.latency(strategy) is None or self.latency(than) is None:
            return None
        if self.measured:
            return statistics.ratio(self._compared(than), self._compared(strategy))
        first, second = self.simulated[than], self.simulated[strategy]
        if self.cell.in_flight > 1:
            return Estimate(*(second.requests_per_second / first.requests_per_second,) * 3)
        return Estimate(*(first.seconds / second.seconds,) * 3)

    def _compared(self, strategy: str) -> list[tuple[float, ...]]:
        """Seconds of each request of each launch; with several in flight, seconds between two answers."""
        if self.cell.in_flight == 1:
            return self.seconds(strategy)
        return [(launch.wall_seconds / len(launch.seconds),) for launch in self.launches[strategy]]

    def segment_seconds(self, strategy: str) -> tuple[float, ...]:
        """Of each segment of a strategy's plan; empty where it is not known."""
        if self.measured:
            return self.traced[strategy].segment_seconds if strategy in self.traced else ()
        return self.simulated[strategy].segment_seconds if strategy in self.simulated else ()

    @property
    def speed_up(self) -> Estimate | None:
        """Of our plan over onnxruntime alone on the best device: `times_faster`."""
        return self.times_faster(OURS, ALONE)

    @property
    def best_baseline(self) -> str | None:
        """The fastest of the strategies that are not ours."""
        found = [name for name in BASELINES if self.latency(name) is not None]
        if self.cell.in_flight > 1:
            return max(found, key=lambda name: self.throughput(name) or 0.0, default=None)
        return min(found, key=lambda name: self._value(name), default=None)

    def _value(self, strategy: str) -> float:
        found = self.latency(strategy)
        return float("inf") if found is None else found.value

    @property
    def regret(self) -> Estimate | None:
        """Time of our plan relative to that of the best baseline: above 1 it is slower."""
        best = self.best_baseline
        return None if best is None else self.times_faster(best, OURS)

    def prediction(self, strategy: str) -> tuple[float, float] | None:
        """Predicted and measured seconds of one request, where there is both."""
        latency = self.latency(strategy)
        if not self.measured or latency is None or strategy not in self.planned or self.cell.in_flight > 1:
            return None
        return self.planned[strategy].predicted_seconds, latency.value


def summarise(records: Iterable[Record]) -> list[CellResult]:
    """The cells that have figures, the most informative first."""
    found: dict[Cell, CellResult] = {}
    for record in records:
        result = found.setdefault(record.cell, CellResult(record.cell))
        match record:
            case Launch(strategy=name):
                _keep(result.launches.setdefault(name, []), record)
            case Planned(strategy=name):
                result.planned[name] = record
            case Traced(strategy=name):
                result.traced[name] = record
            case Simulated(strategy=name):
                result.simulated[name] = record
            case Failed(strategy=name, reason=reason):
                result.failures[name] = reason
            case Check():
                result.check = record
    return [found[cell] for cell in by_information(found) if found[cell].strategies]


def errors(results: Iterable[CellResult], strategies: Sequence[str]) -> list[float]:
    """Relative differences of predicted from measured latency."""
    pairs = [result.prediction(name) for result in results for name in strategies]
    return [abs(predicted / measured - 1) for predicted, measured in filter(None, pairs)]


def verdict(results: Sequence[CellResult]) -> list[str]:
    """Sentences over all these cells: how well latencies were predicted, how ours compares, and how exact answers were.

    Cells with several requests in flight say nothing of latencies.
    """
    lines = []
    for title, chosen in (("our plans", [OURS]), ("all plans", [OURS, *BASELINES])):
        if values := errors(results, chosen):
            lines.append(f"Error of the prediction, {title}: median {builtin.median(values):.1%}, "
                         f"worst {max(values):.1%} of {len(values)}.")  # fmt: skip
    single = [result for result in results if result.cell.in_flight == 1]
    if gains := [1 / found.value for result in single if (found := result.regret) is not None]:
        lines.append(f"Ours against the best other strategy: mean {statistics.geometric_mean(gains):.3f}×, "
                     f"worst {min(gains):.3f}×, cells: {len(gains)}.")  # fmt: skip
    if results:
        largest = max(result.difference for result in results)
        lines.append(f"Largest difference from unsplit onnxruntime: {largest:.1e} of the largest output.")
    return lines


def _keep(launches: list[Launch], new: Launch) -> None:
    """Launches on a quiet machine replace noisy ones."""
    if launches and launches[-1].noisy != new.noisy:
        if new.noisy:
            return
        launches.clear()
    launches.append(new)
