"""Daemons as child processes of a command: start, wait until they listen, stop."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from flexpie.core.errors import ErrorCode, FlexPieError

_LISTENING = re.compile(r"listening on (\S+)")
_KEPT_LINES = 200
_END_SECONDS = 5.0


class DaemonProcess:
    """A daemon in a process of its own, with its log kept for the case that it fails."""

    def __init__(self, module: str, arguments: Sequence[str], name: str) -> None:
        self.name = name
        self.log: deque[str] = deque(maxlen=_KEPT_LINES)
        self._address = ""
        self._listening = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,  # ends with us, and so does a daemon that is started --with-parent
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**_inherited(), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C reaches the command, which stops its daemons in order
        )
        self._reader = threading.Thread(target=self._read, name=f"{name}-log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def address(self, timeout_seconds: float) -> str:
        """``host:port``, once the daemon listens.

        Raises FlexPieError when it ends instead, or takes longer.
        """
        self._listening.wait(timeout_seconds)
        if self._address:
            return self._address
        what = f"did not listen in {timeout_seconds:g} s"
        if self._listening.is_set():  # its output has ended, and so will it
            with contextlib.suppress(subprocess.TimeoutExpired):
                what = f"ended with code {self._process.wait(_END_SECONDS)}"
        self.stop()
        raise FlexPieError(ErrorCode.INTERNAL, f"The {self.name} {what}: {' | '.join(list(self.log)[-5:])}")

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """End the process: politely, then for good. Does nothing when it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(timeout_seconds)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        """End the process without warning."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line.rstrip())
            if not self._address and (match := _LISTENING.search(line)):
                self._address = match.group(1)
                self._listening.set()
        self._listening.set()


def _inherited() -> dict[str, str]:
    """The environment without a certificate that is meant for the command: a daemon is given its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLEXPIE_TLS_")}
