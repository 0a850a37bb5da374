"""Processes on the hosts of a testbed: start, wait until they listen, signal, end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import namespaces

STOP_SECONDS = 10.0
"""How long a process may take until it stands after SIGSTOP."""

_POLL_SECONDS = 0.02
_LISTENING = re.compile(r"^listening on (\S+)$", re.MULTILINE)


class HostProcess:
    """A process in a host's namespace; what it prints goes to a file, so that it outlives a crash of its owner."""

    def __init__(self, name: str, namespace: str, command: Sequence[str], log_path: Path) -> None:
        """Start it."""
        self.name = name
        self.namespace = namespace
        self.command = tuple(command)
        self.log_path = log_path
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        self._process = namespaces.call_in(namespace, self._start)

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C reaches the testbed, which ends its processes in order
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has printed."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def address(self, timeout_seconds: float = 60.0) -> str:
        """``host:port``, once it says that it listens.

        Raises FlexPieError(INTERNAL) with the end of its log when it ends instead, or takes longer.
        """
        return self.wait_for(_LISTENING, timeout_seconds)[1]

    def wait_for(self, line: re.Pattern[str], timeout_seconds: float) -> re.Match[str]:
        """The first match of a pattern in its log.

        Raises FlexPieError(INTERNAL) with the end of its log when it ends instead, or takes longer.
        """
        deadline = time.monotonic() + timeout_seconds
        while not (match := line.search(self.log)):
            if not self.alive() or time.monotonic() > deadline:
                what = f"was not ready in {timeout_seconds:g} s"
                if not self.alive():
                    what = f"ended with code {self._process.returncode}"
                last = " | ".join(self.log.splitlines()[-5:])
                raise FlexPieError(ErrorCode.INTERNAL, f"{self.name} {what}: {last}")
            time.sleep(_POLL_SECONDS)
        return match

    def wait(self, timeout_seconds: float) -> int:
        """Its exit code, once it has ended; raises FlexPieError(DEADLINE_EXCEEDED) after the timeout."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            message = f"{self.name} still runs after {timeout_seconds:g} s."
            raise FlexPieError(ErrorCode.DEADLINE_EXCEEDED, message) from None

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used; 0 when it has ended."""
        if not self.alive():
            return 0.0
        try:
            return time.clock_gettime(_cpu_clock(self.pid))
        except OSError:  # it has ended just now
            return 0.0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Does nothing when it has ended."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Stop it (SIGSTOP), and wait until it stands. Does nothing when it has ended."""
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive() and _stat(self.pid)[0] != "T":
            if time.monotonic() > deadline:
                raise FlexPieError(ErrorCode.INTERNAL, f"{self.name} did not stop in {STOP_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)

    def thaw(self) -> None:
        """Let it go on (SIGCONT). Does nothing when it has ended."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without warning, stopped or not, and wait until it is gone. Does nothing when it has ended."""
        self._process.kill()
        self._process.wait()


def _cpu_clock(pid: int) -> int:
    """The clock that counts a process's processor time in nanoseconds; /proc counts in hundredths of a second."""
    return (~pid << 3) | 2


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the process's state on (the third)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
