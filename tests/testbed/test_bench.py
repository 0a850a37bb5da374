"""A benchmark on a real testbed, whole and interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flexpie_models
from flexpie import testbed
from flexpie.benchmark.cells import ALONE, OURS, Cell, Ground
from flexpie.benchmark.model_files import ModelLibrary
from flexpie.benchmark.progress import Ledger
from flexpie.benchmark.records import Check, Launch, Planned, Traced, new_header
from flexpie.benchmark.results import ResultFile, read_results
from flexpie.benchmark.summary import CellResult
from flexpie.benchmark.sweep import Outcome, Settings, sweep
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed.records import Records
from flexpie.testbed.selftest import DeviceSpeed, SelfTest
from tests.daemons import wait_until
from tests.testbed.conftest import MakeTestbed
from tests.testbed.hosts import remains

pytestmark = pytest.mark.testbed

SECONDS = 90.0
CELL = Cell("digits", Ground((0.2, 0.2), 1e9))
STRATEGIES = (OURS, ALONE, "InH")


class Silent:
    """A watcher that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.complete: list[Cell] = []
        self.steps: list[tuple[int, int]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def finished(self, result: CellResult) -> None:
        self.complete.append(result.cell)

    def stage(self, text: str) -> None:
        pass

    def step(self, done: int, total: int, seconds_left: float) -> None:
        self.steps.append((done, total))


def run(output: Path, folder: Path, records: Records, launches: int, watcher: Silent | None = None,
        cells: Sequence[Cell] = (CELL,), **more: Any) -> Outcome:  # fmt: skip
    chosen: dict[str, Any] = {"strategies": STRATEGIES, "launch_seconds": 0.05, "check_seconds": 0.05,
                              "accept_noise": True, "calibrated": False, **more}  # fmt: skip
    library = ModelLibrary(folder, lambda name: flexpie_models.build(name).SerializeToString())
    with ResultFile(output, new_header("now")) as file:
        settings = Settings(cells, launches=launches, **chosen)
        return sweep(settings, file, library, watcher or Silent(), records, overload=True)


def test_a_cell_is_measured_checked_and_not_measured_again(tmp_path: Path, records: Records) -> None:
    output, watcher = tmp_path / "results.jsonl", Silent()
    outcome = run(output, tmp_path, records, 1, watcher)
    assert (outcome.measured, outcome.wrong, outcome.failed) == ([CELL], [], []), watcher.said
    found = read_results(output).records
    assert isinstance(found[0], Check)
    assert {record.strategy for record in found if isinstance(record, Planned)} == {OURS, "InH"}
    launches = [record for record in found if isinstance(record, Launch)]
    assert [launch.strategy for launch in launches] == list(STRATEGIES)
    for launch in launches:
        assert launch.equal
        assert len(launch.seconds) >= 5
        assert min(launch.seconds) > 0
        assert launch.wall_seconds >= sum(launch.seconds)
        assert sum(launch.cpu_seconds.values()) > 0
    traces = {record.strategy: record for record in found if isinstance(record, Traced)}
    assert set(traces) == {OURS, "InH"}
    assert len(traces["InH"].segment_seconds) > 1
    assert traces[OURS].spans
    assert not traces["InH"].spans
    assert watcher.steps == [(0, 3), (1, 3), (2, 3)]
    assert watcher.complete == [CELL]
    assert run(output, tmp_path, records, 1).measured == [CELL]
    assert read_results(output).records == found
    assert not records.all()


INTERRUPTED = """
import sys
from pathlib import Path
from flexpie.testbed.records import Records
from flexpie.testbed.selftest import DeviceSpeed, SelfTest
from tests.testbed.test_bench import run
run(Path(sys.argv[1]), Path(sys.argv[2]), Records(Path(sys.argv[3])), 500)
"""


def test_an_interrupted_benchmark_leaves_a_whole_file_and_nothing_else(tmp_path: Path, records: Records) -> None:
    output = tmp_path / "results.jsonl"
    command = [sys.executable, "-c", INTERRUPTED, str(output), str(tmp_path), str(records.folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            wait_until(lambda: launches_in(output) >= 4 or process.poll() is not None, "a second round", SECONDS)
            (record,) = records.all()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not remains(record.run)
    assert not records.all()
    assert output.read_bytes().endswith(b"\n")
    made = [item for item in read_results(output).records if isinstance(item, Launch)]
    assert len(made) >= 4
    ledger = Ledger(STRATEGIES, launches=2, noisy_too=True)
    ledger.note(made)
    assert len(ledger.left(CELL)) == 6 - len(made[:6])


def launches_in(output: Path) -> int:
    return output.read_text().count('"launch"') if output.exists() else 0


def test_nothing_begins_that_would_end_too_late(tmp_path: Path, records: Records) -> None:
    outcome = run(tmp_path / "results.jsonl", tmp_path, records, 1, minutes=1e-3)
    assert (outcome.out_of_time, outcome.measured, outcome.failed) == (True, [], [])


def test_a_testbed_that_breaks_costs_its_own_cells_only(
    tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate(bed: testbed.Testbed) -> None:
        if len(bed.devices) == 1:
            raise FlexPieError(ErrorCode.INTERNAL, "The calibration failed: it burns")

    monkeypatch.setattr("flexpie.benchmark.sweep.calibrate", calibrate)
    broken, watcher = Cell("digits", Ground((0.2,), 1e9)), Silent()
    outcome = run(tmp_path / "results.jsonl", tmp_path, records, 1, watcher, [broken, CELL], calibrated=True,
                  strategies=(ALONE,))  # fmt: skip
    assert (outcome.failed, outcome.measured) == ([broken], [CELL])
    assert any("it burns" in line for line in watcher.said)


def test_a_noisy_machine_is_told_with_its_numbers_and_its_cell_left_out(
    tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = SelfTest((DeviceSpeed("d0", 0.2, 0.1),), (), 0.7, 0.0, 1.0)
    monkeypatch.setattr("flexpie.benchmark.sweep.run_self_test", lambda bed, seconds: noisy)
    watcher = Silent()
    outcome = run(tmp_path / "results.jsonl", tmp_path, records, 1, watcher, accept_noise=False)
    assert (outcome.noisy, outcome.measured) == ([CELL], [])
    (line,) = watcher.said
    assert "too noisy: other programs use 70% of a core; end them; d0 computes like 10.0% of a core, not 20.0%" in line
    checks = [record for record in read_results(tmp_path / "results.jsonl").records if isinstance(record, Check)]
    assert [check.found for check in checks] == [noisy]


def test_another_testbed_that_runs_is_refused_by_name(tmp_path: Path, make: MakeTestbed, records: Records) -> None:
    with (
        make(testbed.uniform(1, 0.05)) as bed,
        pytest.raises(FlexPieError, match=f"Testbed {bed.run_id} runs on this machine") as caught,
    ):
        run(tmp_path / "results.jsonl", tmp_path, records, 1, accept_noise=False)
    assert f"flexpie testbed down {bed.run_id}" in caught.value.remedy
