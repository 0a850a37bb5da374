"""Daemons that a command starts: one that fails is told at once, with what it said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flexpie.cli.processes import DaemonProcess
from flexpie.core.errors import FlexPieError


def test_a_daemon_that_cannot_start_is_told_with_its_last_words() -> None:
    last_words = r"The worker 0 ended with code 1: flexpie-worker: --host 0\.0\.0\.0 can"
    with (
        DaemonProcess("flexpie.cli.worker_command", ["--host", "0.0.0.0"], "worker 0") as daemon,
        pytest.raises(FlexPieError, match=last_words),
    ):
        daemon.address(timeout_seconds=600.0)  # more than a test may take


def test_a_daemon_that_says_nothing_is_not_waited_for() -> None:
    with (
        DaemonProcess("http.server", ["--bind", "127.0.0.1", "0"], "server") as daemon,
        pytest.raises(FlexPieError, match="did not listen in 0 s"),
    ):
        daemon.address(timeout_seconds=0.0)


def test_a_daemon_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    words = ["-m", "flexpie.cli.worker_command", "--port", "0", "--state-dir", str(tmp_path), "--with-parent"]
    with subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith(b"listening on ")
        worker.stdin.close()  # as when the command is killed
        assert worker.wait(timeout=60) == 0
