"""The writing half of a stream: messages leave in order, one write at a time, without a task for each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.limits import MAX_MESSAGE_BYTES

MAX_QUEUED_BYTES = 512 * 1024 * 1024
"""A stream whose other end takes nothing holds no more than this."""


def check_message(nbytes: int, max_message_bytes: int, queued_bytes: int, max_queued_bytes: int) -> None:
    """Raise ``TOO_LARGE`` for a message that a stream refuses, ``OVERLOADED`` when too much waits for it already."""
    if nbytes > max_message_bytes:
        raise FlexPieError(
            ErrorCode.TOO_LARGE,
            f"A message of {nbytes} bytes is larger than the limit of {max_message_bytes} bytes.",
            "Use a smaller input, or start all workers with a larger --max-message-bytes.",
        )
    if queued_bytes and queued_bytes + nbytes > max_queued_bytes:
        raise FlexPieError(
            ErrorCode.OVERLOADED,
            f"{queued_bytes} bytes wait for a link that takes none.",
            "Try again with fewer requests at once, and check the link.",
        )


class Writing(Protocol):
    """What messages are put into that are to leave on a stream."""

    def put(self, message: bytes) -> None:
        """Send a message soon, in order; raises ``TOO_LARGE``, ``OVERLOADED`` or ``DEVICE_UNREACHABLE``."""


class Outbox:
    """Messages that wait for a stream to take them."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        """`write` sends one message and returns when the stream can take another."""
        self._write = write
        self._max_message_bytes = max_message_bytes
        self._max_queued_bytes = max_queued_bytes
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, message: bytes) -> None:
        """Queue a message; raises ``TOO_LARGE`` for one that the stream refuses, ``OVERLOADED`` when too much waits."""
        check_message(len(message), self._max_message_bytes, self._queued_bytes, self._max_queued_bytes)
        self._queue.append(message)
        self._queued_bytes += len(message)
        self._notify()

    def close(self) -> None:
        """Let `run` return when everything is written."""
        self._closed = True
        self._notify()

    async def run(self) -> None:
        """Write messages as they come, until closed, cancelled, or the stream breaks."""
        loop = asyncio.get_running_loop()
        while True:
            while self._queue:
                await self._write(self._queue[0])
                self._queued_bytes -= len(self._queue.popleft())
            if self._closed:
                return
            self._wake = loop.create_future()
            await self._wake

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
