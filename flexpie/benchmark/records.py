"""What a benchmark's file holds: one record a line. docs/benchmarks/METHODOLOGY.md describes the fields."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flexpie import __version__
from flexpie.benchmark.cells import Cell
from flexpie.client.types import TraceSpan
from flexpie.testbed.selftest import SelfTest
from flexpie.worker.engine import ENGINE_VERSION

FORMAT: Literal["flexpie-benchmark"] = "flexpie-benchmark"
VERSION: Literal[1] = 1
"""Of the file."""


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    kernel: str
    python: str
    onnxruntime: str

    def __str__(self) -> str:
        return (f"{self.processor}, {self.cores} cores, Linux {self.kernel}, Python {self.python}, "
                f"onnxruntime {self.onnxruntime}")  # fmt: skip


@dataclass(frozen=True)
class Header:
    """The first line."""

    flexpie: str
    """Version that measured."""
    machine: Machine
    begun: str
    """ISO 8601, UTC."""
    format: Literal["flexpie-benchmark"] = FORMAT
    version: Literal[1] = VERSION
    kind: Literal["header"] = "header"


@dataclass(frozen=True)
class Check:
    """What the self-test found before a cell was measured."""

    cell: Cell
    found: SelfTest
    at: str
    kind: Literal["check"] = "check"


@dataclass(frozen=True)
class Planned:
    """What a strategy makes of a cell."""

    cell: Cell
    strategy: str
    predicted_seconds: float
    """Of one request, simulated."""
    planning_seconds: float
    """Processor time of planning."""
    segments: int
    devices: int
    """That take part."""
    kind: Literal["plan"] = "plan"


@dataclass(frozen=True)
class Launch:
    """A strategy deployed anew, warmed up, and asked."""

    cell: Cell
    strategy: str
    round: int
    """From 1."""
    seconds: tuple[float, ...]
    """Of each request, as the client saw it."""
    wall_seconds: float
    """Of all of them together."""
    difference: float
    """Largest difference of any answer from unsplit onnxruntime, relative to the largest output."""
    equal: bool
    """Whether all answers were within the tolerance that `flexpie verify` has."""
    cpu_seconds: Mapping[str, float]
    """Processor time for one request, by device: of its worker, or of onnxruntime alone."""
    noisy: bool
    """Whether the self-test complained, and it was measured all the same."""
    at: str
    kind: Literal["launch"] = "launch"


@dataclass(frozen=True)
class Traced:
    """What devices did for a few requests of a strategy's first launch, which do not count."""

    cell: Cell
    strategy: str
    segment_seconds: tuple[float, ...]
    """Of each segment (`flexpie.benchmark.tracing.segment_seconds`), the median over these requests."""
    client: tuple[float, float]
    """When the last one of them was begun and answered, in seconds of the devices' clock."""
    spans: Mapping[str, tuple[TraceSpan, ...]]
    """What each device did for that one; for our own plan only."""
    kind: Literal["trace"] = "trace"


@dataclass(frozen=True)
class Failed:
    """A strategy that cannot do a cell, or a launch that failed."""

    cell: Cell
    strategy: str
    reason: str
    at: str
    final: bool = True
    """Whether there is no use in trying again: a plan that does not fit, not a launch that broke."""
    kind: Literal["failure"] = "failure"


@dataclass(frozen=True)
class Simulated:
    """A cell that the machine cannot hold, or that was to be simulated: nothing of it was measured."""

    cell: Cell
    strategy: str
    seconds: float
    """Of one request."""
    requests_per_second: float
    """With as many in flight as the cell has."""
    reason: str
    segment_seconds: tuple[float, ...] = ()
    """Of each segment, for one request."""
    kind: Literal["simulation"] = "simulation"


Record = Check | Planned | Launch | Traced | Failed | Simulated


def this_machine() -> Machine:
    """The machine that this runs on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = found[0].partition(":")[2].strip() if found else name
    return Machine(name, os.cpu_count() or 1, platform.release(), platform.python_version(), ENGINE_VERSION)


def new_header(now: str) -> Header:
    """Of a file that this version begins on this machine."""
    return Header(__version__, this_machine(), now)
