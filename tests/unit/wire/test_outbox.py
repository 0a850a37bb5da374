"""Messages leave in order, and never more wait than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.outbox import Outbox


class SlowStream:
    """Takes one message each time that it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self._permits = asyncio.Semaphore(0)

    async def write(self, message: bytes) -> None:
        await self._permits.acquire()
        self.written.append(message)

    def permit(self, count: int) -> None:
        for _ in range(count):
            self._permits.release()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 10)

    asyncio.run(bounded())


def test_messages_leave_in_order() -> None:
    async def scenario() -> None:
        stream = SlowStream()
        outbox = Outbox(stream.write)
        outbox.put(b"1")
        writing = asyncio.create_task(outbox.run())
        outbox.put(b"2")
        stream.permit(2)
        while len(stream.written) < 2:
            await asyncio.sleep(0)
        outbox.put(b"3")
        stream.permit(1)
        outbox.close()
        await writing
        assert stream.written == [b"1", b"2", b"3"]

    run(scenario)


def test_what_waits_is_bounded() -> None:
    async def scenario() -> None:
        outbox = Outbox(SlowStream().write, max_message_bytes=8, max_queued_bytes=10)
        outbox.put(bytes(8))
        with pytest.raises(FlexPieError) as raised:
            outbox.put(bytes(3))
        assert raised.value.code is ErrorCode.OVERLOADED
        outbox.put(bytes(2))
        with pytest.raises(FlexPieError, match="message of 9 bytes is larger than the limit of 8") as raised:
            outbox.put(bytes(9))
        assert raised.value.code is ErrorCode.TOO_LARGE

    run(scenario)


def test_closing_writes_what_waits() -> None:
    async def scenario() -> None:
        stream = SlowStream()
        outbox = Outbox(stream.write)
        outbox.put(b"1")
        outbox.close()
        stream.permit(1)
        await outbox.run()
        assert stream.written == [b"1"]

    run(scenario)


def test_a_broken_stream_is_reported() -> None:
    async def broken(message: bytes) -> None:
        raise OSError("broken")

    async def scenario() -> None:
        outbox = Outbox(broken)
        outbox.put(b"1")
        with pytest.raises(OSError, match="broken"):
            await outbox.run()

    run(scenario)
