"""This process under a CPU quota for a while, as an emulated device is all the time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from flexpie.testbed import ticker
from flexpie.testbed.cpu import find_cpu_controller

_GROUP = "self"


class OwnShare:
    """Puts this process, with all its threads, under a quota while it is entered; may be entered again and again.

    `close` must be called in the end. Raises FlexPieError(INVALID_ARGUMENT) where quotas cannot be set.
    """

    def __init__(self, cpu: float) -> None:
        """`cpu`: cores, above 0."""
        self.cpu = cpu
        self._controller = find_cpu_controller(Path("/proc/mounts").read_text())
        self._topmost = self._controller.root / "cgroup.procs"
        self._run = f"flexpie-share-{os.getpid()}"
        self._tickers = [
            subprocess.Popen(
                [sys.executable, "-I", "-S", ticker.__file__, str(core), str(os.getpid()), str(self._topmost)],
                stdout=subprocess.DEVNULL,
            )
            for core in sorted(os.sched_getaffinity(0))
        ]
        self._controller.create(self._run)
        self._controller.limit(self._run, _GROUP, None)
        self._controller.add(self._run, _GROUP, os.getpid())

    def __enter__(self) -> None:
        self._controller.limit(self._run, _GROUP, self.cpu)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._controller.limit(self._run, _GROUP, None)

    def close(self) -> None:
        """Leave the group, and remove it."""
        for process in self._tickers:
            process.kill()
            process.wait()
        self._topmost.write_text(str(os.getpid()))
        self._controller.remove(self._run)
