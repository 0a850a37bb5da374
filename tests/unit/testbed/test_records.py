"""Notes about testbeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flexpie.testbed.records import DeviceRecord, ProcessIdentity, Records, RunRecord, identify


def test_what_is_written_is_read_back_and_forgotten(tmp_path: Path) -> None:
    records = Records(tmp_path / "notes")
    me = identify(os.getpid())
    device = DeviceRecord("d0", "10.77.0.1:50051", 0.2, 1e9, me)
    record = RunRecord("b2c3", me, "/tmp/x", 0.2, "ring", ready=True, owns_folder=False, devices=(device,))
    with records.locked():
        records.write(record)
    assert records.all() == [record]
    assert records.knows("b2c3")
    records.forget("b2c3")
    records.forget("b2c3")
    assert records.all() == []


def test_no_folder_is_no_testbed(tmp_path: Path) -> None:
    assert Records(tmp_path / "none").all() == []


def test_a_process_is_alive_until_it_ends_whoever_has_its_number_then() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identify(process.pid)
        assert identity.alive
        assert not ProcessIdentity(process.pid, identity.started - 1).alive
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.alive  # it has ended, though nobody has asked for its exit code
    assert not identity.alive
    assert not identify(process.pid).alive
