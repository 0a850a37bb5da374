"""Orders and answers between the benchmark and its processes on the testbed's hosts.

Both ends talk JSON, one line each way, over a Unix socket: files are the same on all hosts of a testbed, so an order
needs no network, and takes nothing of an emulated link.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import Testbed
from flexpie.testbed.processes import HostProcess

START_SECONDS = 60.0
_POLL_SECONDS = 0.5

Answer = dict[str, Any]


class Server:
    """A process on a host that carries out orders; ends with the `with` block, or with the testbed."""

    def __init__(self, bed: Testbed, host: str, module: str, name: str) -> None:
        """Start ``python -m module SOCKET`` and wait until it connects."""
        path = bed.folder / f"{name}.socket"
        path.unlink(missing_ok=True)
        self._name = name
        self._lost = ""
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(path))
            listener.listen(1)
            self.process: HostProcess = bed.start(host, [sys.executable, "-m", module, str(path)], name)
            self._wait(listener, START_SECONDS, "start")
            self._connection, _ = listener.accept()
        self._reader = self._connection.makefile("rb")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def order(self, what: str, timeout_seconds: float, **arguments: Any) -> Answer:
        """Have something done. Raises what it failed with, or INTERNAL when the process ended, or takes too long."""
        if self._lost:  # the next answer would be that to an older order
            raise FlexPieError(ErrorCode.INTERNAL, self._lost)
        try:
            self._connection.sendall(json.dumps({"order": what, **arguments}).encode() + b"\n")
            self._wait(self._connection, timeout_seconds, what)
            line = self._reader.readline()
        except OSError:
            line = b""
        if not line:
            raise self._broken(f"ended while it should {what}")
        answer: Answer = json.loads(line)
        if "code" in answer:
            raise FlexPieError(ErrorCode(answer["code"]), answer["message"], answer["remedy"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._reader.close()
        self._connection.close()
        self.process.kill()

    def _wait(self, readable: socket.socket, timeout_seconds: float, what: str) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not select.select([readable], [], [], _POLL_SECONDS)[0]:
            if not self.process.alive():
                raise self._broken(f"ended while it should {what}")
            if time.monotonic() > deadline:
                raise self._broken(f"did not {what} in {timeout_seconds:g} s")

    def _broken(self, what: str) -> FlexPieError:
        last = " | ".join(self.process.log.splitlines()[-3:])
        self._lost = f"{self._name} {what}. {last}".strip()
        return FlexPieError(ErrorCode.INTERNAL, self._lost)


def serve(orders: Mapping[str, Callable[..., Answer]]) -> None:
    """The other end, for a module's `main`: carry out orders until the benchmark hangs up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        for line in connection.makefile("rb"):
            arguments = json.loads(line)
            name = arguments.pop("order")
            try:
                answer = orders[name](**arguments)
            except FlexPieError as error:
                answer = {"code": error.code.value, "message": error.message, "remedy": error.remedy}
            except Exception as error:  # whoever gave the order is told
                code = ErrorCode.INTERNAL.value
                answer = {"code": code, "message": f"{type(error).__name__}: {error}", "remedy": ""}
            connection.sendall(json.dumps(answer).encode() + b"\n")


def arrays_of(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file, by name."""
    import numpy as np

    with np.load(path) as file:
        return dict(file)
