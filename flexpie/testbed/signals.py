"""SIGINT and SIGTERM around a testbed: they end it in order, and do not interrupt its removal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)


class TerminationGuard:
    """Makes SIGTERM raise SystemExit, where it would end the process without cleaning up."""

    def __init__(self) -> None:
        self._replaced = False

    def install(self) -> None:
        """Does nothing outside of the main thread, or when somebody handles SIGTERM already."""
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _leave)
            self._replaced = True

    def uninstall(self) -> None:
        """As it was before."""
        if self._replaced and signal.getsignal(signal.SIGTERM) is _leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._replaced = False


@contextmanager
def deferred() -> Iterator[None]:
    """SIGINT and SIGTERM that come within the block count at its end."""
    if not _in_main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda code, _: came.append(code)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
