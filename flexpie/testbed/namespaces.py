"""Network namespaces: make, enter, remove; and the processes that live in one.

A namespace is entered by a thread that ends afterwards. Sockets and processes made there stay in it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pyroute2 import netns

from flexpie.core.errors import ErrorCode, FlexPieError

FOLDER = Path("/run/netns")
"""Where iproute2 looks for names, so that ``ip netns exec NAME`` works."""
GONE_SECONDS = 10.0
"""How long a killed process may take to disappear."""

_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


def create(name: str) -> None:
    """Make a namespace.

    Raises FlexPieError(INVALID_ARGUMENT) where the kernel refuses.
    """

    def make() -> None:
        # os.unshare exists since Python 3.12 only.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        netns.attach(name, "thread-self")

    try:
        _in_thread(make)
    except OSError as error:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            f"The kernel gives no network namespace: {error.strerror or error}.",
            "The testbed needs a Linux kernel with network namespaces, and inside of a container --privileged.",
        ) from None


def call_in(name: str, function: Callable[[], _T]) -> _T:
    """What the function returns or raises when a thread calls it in the namespace."""

    def enter() -> _T:
        netns.setns(name, flags=0, fork=False)
        return function()

    return _in_thread(enter)


def existing() -> list[str]:
    """The named namespaces of this machine."""
    return sorted(os.listdir(FOLDER)) if FOLDER.is_dir() else []


def remove(name: str) -> None:
    """Remove a namespace's name; the kernel removes its links when no process is left in it."""
    with suppress(FileNotFoundError):
        netns.remove(name)


def end_processes_in(names: Iterable[str]) -> None:
    """Kill every process in these namespaces, except this one, and wait until they are gone."""
    identities = {_identity(FOLDER / name) for name in names if (FOLDER / name).exists()}
    deadline = time.monotonic() + GONE_SECONDS
    while killed := [fd for pid in _pids() if (fd := _kill_if_in(pid, identities)) is not None]:
        for fd in killed:
            with os.fdopen(fd):
                select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if time.monotonic() > deadline:
            raise FlexPieError(ErrorCode.INTERNAL, f"{len(killed)} processes of a testbed cannot be ended.")


def _in_thread(function: Callable[[], _T]) -> _T:
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # whatever it is belongs to the caller
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="in-namespace")
    thread.start()
    try:
        thread.join()
    except BaseException:
        thread.join()  # whoever cleans up after Ctrl-C must see all that the thread makes
        raise
    return outcome.result()


def _identity(namespace: Path) -> tuple[int, int]:
    found = namespace.stat()
    return found.st_dev, found.st_ino


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]


def _kill_if_in(pid: int, identities: set[tuple[int, int]]) -> int | None:
    """A descriptor that is readable when the process is gone; None when it lives elsewhere, or is gone already."""
    try:
        fd = os.pidfd_open(pid)  # from here on the number cannot come to mean another process
    except OSError:
        return None
    try:
        if _identity(Path(f"/proc/{pid}/ns/net")) in identities:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return fd
    except OSError:
        pass
    os.close(fd)
    return None
