"""A testbed is gone when its block ends, however it ends; and what a crash leaves is removed by the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flexpie import testbed
from flexpie.core.errors import FlexPieError
from flexpie.testbed.records import Records
from tests.daemons import wait_until
from tests.testbed.conftest import MakeTestbed
from tests.testbed.hosts import remains

pytestmark = pytest.mark.testbed

SECONDS = 60.0

OWNER = """
import sys, time
from pathlib import Path
from flexpie import testbed
from flexpie.testbed.records import Records
with testbed.Testbed(testbed.uniform(2, 0.05), overload=True, records=Records(Path(sys.argv[1]))) as bed:
    print(bed.run_id, bed.folder, *(device.pid for device in bed.devices), flush=True)
    while True:
        time.sleep(0.1)
"""


class _Owner:
    """A process that keeps a testbed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.run, folder, *pids = process.stdout.readline().split()
        self.folder = Path(folder)
        self.pids = [int(pid) for pid in pids]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def owner(records: Records) -> Iterator[_Owner]:
    command = [sys.executable, "-c", OWNER, str(records.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield _Owner(process)
        finally:
            process.kill()


def test_nothing_is_left_after_an_exception(make: MakeTestbed, records: Records) -> None:
    bed = make(testbed.uniform(2, 0.05))

    def fail_inside() -> None:
        with bed:
            assert [record.run for record in records.all()] == [bed.run_id]
            assert remains(bed.run_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not remains(bed.run_id)
    assert not bed.folder.exists()
    assert not records.all()


def test_a_given_folder_stays(make: MakeTestbed, tmp_path: Path) -> None:
    with make(testbed.uniform(1, 0.05), folder=tmp_path / "kept"):
        pass
    assert (tmp_path / "kept" / "cluster.yaml").is_file()
    assert "listening on 10.77.0.1:50051" in (tmp_path / "kept" / "worker-d0.log").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_signals_end_it_in_order(owner: _Owner, number: signal.Signals, code: int) -> None:
    assert owner.end(number) == code
    assert not remains(owner.run)
    assert not owner.folder.exists()


def test_what_a_killed_owner_leaves_is_removed_by_the_next_testbed(
    owner: _Owner, make: MakeTestbed, records: Records
) -> None:
    owner.end(signal.SIGKILL)
    assert len(remains(owner.run)) > len(owner.pids)
    assert owner.folder.exists()
    with make(testbed.uniform(1, 0.05)) as bed:
        assert [record.run for record in records.all()] == [bed.run_id]
        assert not remains(owner.run)
        assert not owner.folder.exists()


def test_a_worker_that_does_not_start_is_an_error_with_its_log(make: MakeTestbed) -> None:
    bed = make(testbed.uniform(2, 0.05), worker_arguments=["--no-such-option"])
    with pytest.raises(FlexPieError, match=r"worker-d0 ended with code 2: .*No such option"):
        bed.__enter__()
    assert not remains(bed.run_id)


# ------------------------------------------------------------------------------------------ the command


def _flexpie(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flexpie.cli.main", "testbed", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@contextmanager
def _detached() -> Iterator[str]:
    """Id of a testbed in the background."""
    up = _flexpie("up", "--detach", "--devices", "2", "--cpu", "2%", "--bandwidth", "1gbit,100mbit")
    assert up.returncode == 0, up.stderr
    run = up.stdout.split()[1].rstrip(":")
    try:
        yield run
    finally:
        if remains(run):
            _flexpie("down", run)


def _status(run: str) -> dict[str, Any] | None:
    found = json.loads(_flexpie("status", "--json").stdout)["testbeds"]
    return next((item for item in found if item["run"] == run), None)


def test_up_status_and_down() -> None:
    with _detached() as run:
        found = _status(run)
        assert found is not None
        assert found["state"] == "running"
        assert [(device["name"], device["alive"]) for device in found["devices"]] == [("d0", True), ("d1", True)]
        down = _flexpie("down", run)
        assert (down.returncode, down.stdout) == (0, f"removed testbed {run}\n"), down.stderr
        assert not remains(run)
        assert _status(run) is None


def test_down_removes_what_a_crash_has_left() -> None:
    with _detached() as run:
        found = _status(run)
        assert found is not None
        os.kill(found["owner"]["pid"], signal.SIGKILL)
        wait_until(lambda: (_status(run) or {}).get("state") == "left over by a crash", "the crash is seen")
        assert _flexpie("down", run).returncode == 0
        assert not remains(run)


def test_a_testbed_larger_than_the_machine_is_refused_with_the_numbers() -> None:
    up = _flexpie("up", "--devices", "4", "--cpu", "9999%")
    assert up.returncode == 3
    assert "399.96 for 4 devices" in up.stderr
    assert "Use fewer devices" in up.stderr


def test_a_run_that_there_is_not_is_refused() -> None:
    down = _flexpie("down", "b2b2")
    assert down.returncode == 3
    assert "There is no testbed 'b2b2'" in down.stderr
