"""A benchmark from its first cell to its last: testbed after testbed, cell after cell, launch after launch."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from flexpie import testbed
from flexpie.benchmark.cells import STRATEGIES, Cell, Ground
from flexpie.benchmark.measuring import MeasuredCell, calibrate, now
from flexpie.benchmark.model_files import ModelLibrary
from flexpie.benchmark.planning import Strategy, cluster_of, plan_strategies, simulate_strategies
from flexpie.benchmark.progress import Ledger
from flexpie.benchmark.records import Check, Failed, Record
from flexpie.benchmark.results import ResultFile
from flexpie.benchmark.schedule import Pace
from flexpie.benchmark.summary import CellResult, summarise
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.cluster_file import read_cluster_file
from flexpie.testbed.records import Records
from flexpie.testbed.selftest import SelfTest, run_self_test
from flexpie.testbed.testbed import check_rights, why_it_does_not_fit

CHECKS = 3
"""How often the self-test may find the machine too noisy before a cell is left out."""
MOST_FAILURES = 3
"""Launches of a cell that fail one after another before it is left out."""


@dataclass(frozen=True)
class Settings:
    """What to measure, and how."""

    cells: Sequence[Cell]
    """In the order in which they are measured, cells on the same ground together."""
    strategies: Sequence[str] = STRATEGIES
    launches: int = 5
    """Of each strategy in each cell."""
    launch_seconds: float = 2.0
    """How long each is asked, about."""
    minutes: float | None = None
    """No launch begins that would end later."""
    accept_noise: bool = False
    """Measure also where the self-test complains, and mark it."""
    simulate: bool = False
    """Measure nothing."""
    calibrated: bool = True
    """Whether plans count on measured rates, or on CPU shares."""
    check_seconds: float = 1.0
    """How long the self-test measures."""


@dataclass
class Outcome:
    """How it ended."""

    measured: list[Cell] = field(default_factory=list)
    """Cells that are complete."""
    simulated: list[Cell] = field(default_factory=list)
    noisy: list[Cell] = field(default_factory=list)
    """Left out."""
    failed: list[Cell] = field(default_factory=list)
    wrong: list[Cell] = field(default_factory=list)
    """With an answer that differs from the unsplit one."""
    out_of_time: bool = False


class Watcher(Protocol):
    """Who is told how far it is."""

    def say(self, text: str) -> None:
        """Something that is worth a line."""

    def finished(self, result: CellResult) -> None:
        """A cell is complete."""

    def stage(self, text: str) -> None:
        """What is being done now."""

    def step(self, done: int, total: int, seconds_left: float) -> None:
        """Launches made, launches in all, and how long those that are left will take."""


def sweep(settings: Settings, file: ResultFile, library: ModelLibrary, watcher: Watcher,
          records: Records | None = None, overload: bool = False) -> Outcome:  # fmt: skip
    """Do what is left to do of a benchmark; every launch is in the file as soon as it is made.

    Parameters
    ----------
    records: of testbeds, for tests.
    overload: measure although the machine does not hold a testbed, for tests.

    Raises FlexPieError(INVALID_ARGUMENT) without root's rights, on a kernel that cannot emulate devices, and when
    another testbed runs.
    """
    if not settings.simulate:
        check_rights()
        _check_nobody_else(records or Records(), watcher, settings.accept_noise)
    return _Sweep(settings, file, library, watcher, records, overload).run()


class _Sweep:
    def __init__(self, settings: Settings, file: ResultFile, library: ModelLibrary, watcher: Watcher,
                 records: Records | None, overload: bool) -> None:  # fmt: skip
        self._settings, self._file, self._library, self._watcher = settings, file, library, watcher
        self._records, self._overload = records, overload
        self._ledger = Ledger(settings.strategies, settings.launches, settings.accept_noise)
        self._ledger.note(file.records)
        self._pace = Pace()
        self._outcome = Outcome()
        self._deadline = time.monotonic() + 60 * settings.minutes if settings.minutes else float("inf")
        self._waiting = list(settings.cells)
        """Cells that have not had their turn."""
        self._made = 0

    def run(self) -> Outcome:
        for ground, group in itertools.groupby(self._settings.cells, lambda cell: cell.ground):
            cells = list(group)
            reason = self._why_simulated(ground)
            if reason:
                self._each(cells, partial(self._simulate, reason=reason))
            elif any(self._ledger.left(cell) for cell in cells):
                if self._late(cells[0]):
                    break
                self._measure_ground(ground, cells)
            else:
                self._outcome.measured += cells
                self._waiting = [cell for cell in self._waiting if cell not in cells]
            if self._outcome.out_of_time:
                break
        return self._outcome

    def _each(self, cells: Iterable[Cell], do: Callable[[Cell], None]) -> None:
        for cell in cells:
            if self._late(cell):
                return
            self._waiting.remove(cell)
            do(cell)

    def _late(self, cell: Cell) -> bool:
        """Whether there is no time for another launch; then nothing else is begun."""
        if time.monotonic() + self._pace.of(cell.model) > self._deadline:
            self._outcome.out_of_time = True
        return self._outcome.out_of_time

    # Simulated cells.

    def _why_simulated(self, ground: Ground) -> str:
        if self._settings.simulate:
            return "it was asked for"
        return "" if self._overload else why_it_does_not_fit(ground.description)

    def _simulate(self, cell: Cell, reason: str) -> None:
        if names := self._ledger.unsimulated(cell):
            self._watcher.stage(f"simulating {cell}")
            files = self._library.files(cell.model)
            cluster = cluster_of(cell, self._library.folder)
            plans, refused = plan_strategies(cell, files, cluster, names)
            self._keep_plans(cell, plans, refused)
            for record in simulate_strategies(cell, files, cluster, plans, reason):
                self._file.append(record)
        self._outcome.simulated.append(cell)

    # Measured cells.

    def _measure_ground(self, ground: Ground, cells: Sequence[Cell]) -> None:
        """A testbed that breaks costs its cells, not the benchmark."""
        self._watcher.stage(f"starting {ground}")
        bed = testbed.Testbed(ground.description, overload=self._overload, records=self._records)
        try:
            with bed:
                if self._settings.calibrated:
                    self._watcher.stage(f"calibrating {ground}")
                    calibrate(bed)
                self._each(cells, partial(self._measure, bed))
        except FlexPieError as error:
            if error.code is ErrorCode.INVALID_ARGUMENT:  # what the machine lacks, it lacks for all
                raise
            self._watcher.say(f"left out: {ground}: {error}")
            lost = [cell for cell in cells if cell in self._waiting]
            self._outcome.failed += lost
            self._waiting = [cell for cell in self._waiting if cell not in lost]

    def _measure(self, bed: testbed.Testbed, cell: Cell) -> None:
        if not self._ledger.left(cell):
            self._outcome.measured.append(cell)
            return
        found = self._check(bed, cell)
        if not (found.quiet or self._settings.accept_noise):
            self._outcome.noisy.append(cell)
            self._watcher.say(f"left out: {cell}: too noisy: {'; '.join(found.complaints)}")
            return
        try:
            self._plan_and_launch(bed, cell, noisy=not found.quiet)
        except FlexPieError as error:
            self._outcome.failed.append(cell)
            self._watcher.say(f"left out: {cell}: {error}")
        if not self._ledger.left(cell):
            self._outcome.measured.append(cell)
            (result,) = summarise(record for record in self._file.records if record.cell == cell)
            self._watcher.finished(result)

    def _plan_and_launch(self, bed: testbed.Testbed, cell: Cell, noisy: bool) -> None:
        self._watcher.stage(f"planning {cell}")
        files = self._library.files(cell.model)
        cluster = read_cluster_file(bed.cluster_file).cluster
        plans, refused = plan_strategies(cell, files, cluster, self._ledger.possible(cell))
        self._keep_plans(cell, plans, refused)
        with MeasuredCell(bed, cell, files, plans) as running:
            self._launch_all(running, cell, noisy)

    def _check(self, bed: testbed.Testbed, cell: Cell) -> SelfTest:
        """The first self-test that finds the machine quiet, or the last one."""
        for attempt in range(CHECKS):
            self._watcher.stage(f"self-test{f' {attempt + 1} of {CHECKS}' if attempt else ''} before {cell}")
            found = run_self_test(bed, self._settings.check_seconds)
            if found.quiet or self._settings.accept_noise:
                break
        self._file.append(Check(cell, found, now()))
        return found

    def _keep_plans(self, cell: Cell, plans: dict[str, Strategy], refused: dict[str, str]) -> None:
        for name, strategy in plans.items():
            if strategy.text:
                self._file.append(strategy.record(cell, name))
        for name, reason in refused.items():
            self._fail(Failed(cell, name, reason, now()))

    def _launch_all(self, running: MeasuredCell, cell: Cell, noisy: bool) -> None:
        failures = 0
        for number, name in self._ledger.left(cell):
            if self._late(cell):
                return
            self._tell(cell, f"{name}, round {number} of {self._settings.launches}: {cell}")
            begin = time.monotonic()
            try:
                traced = not self._ledger.traced(cell, name)
                launch, trace = running.launch(name, number, self._settings.launch_seconds, noisy, traced)
            except FlexPieError as error:
                self._fail(Failed(cell, name, str(error), now(), final=False))
                failures += 1
                if failures == MOST_FAILURES:
                    self._outcome.failed.append(cell)
                    return
                continue
            failures = 0
            made: list[Record] = [launch] if trace is None else [launch, trace]
            for record in made:
                self._file.append(record)
            self._ledger.note(made)
            self._made += 1
            self._pace.note(cell.model, time.monotonic() - begin)
            if not launch.equal and cell not in self._outcome.wrong:
                self._outcome.wrong.append(cell)
                self._watcher.say(f"wrong answer: {name}, {cell}: {launch.difference:.2g} of the largest output")

    def _tell(self, cell: Cell, stage: str) -> None:
        left = Counter({cell.model: len(self._ledger.left(cell))})
        for other in self._waiting:
            left[other.model] += len(self._ledger.left(other))
        self._watcher.stage(stage)
        self._watcher.step(self._made, self._made + left.total(), self._pace.left(left))

    def _fail(self, record: Failed) -> None:
        self._file.append(record)
        self._ledger.note([record])
        self._watcher.say(f"{record.strategy} {'cannot do' if record.final else 'failed in'} {record.cell}: "
                          f"{record.reason}")  # fmt: skip


def _check_nobody_else(records: Records, watcher: Watcher, accepted: bool) -> None:
    """Another testbed takes what this one measures; what a crash left only waits for its removal."""
    for record in records.all():
        if not record.owner.alive:
            watcher.say(f"removing testbed {record.run}, which a crash has left")
            continue
        what = f"Testbed {record.run} runs on this machine (process {record.owner.pid}): no figure would count."
        if not accepted:
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, f"End it with: flexpie testbed down {record.run}")
        watcher.say(what)
