"""The inside of a worker as its door sees it."""

from __future__ import annotations

import asyncio

from flexpie.wire.framing import Buffer
from flexpie.wire.lean_call import NO_DOOR, LeanCall
from flexpie.wire.outbox import Writing
from flexpie.worker.streams import Caller

CALLER = Caller(3, "d", None)


class Taking:
    """Stands for a `PeerServicer`."""

    def __init__(self) -> None:
        self.door = NO_DOOR
        self.streams: asyncio.Queue[tuple[Caller, Writing]] = asyncio.Queue()
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.ends: asyncio.Queue[Caller] = asyncio.Queue()
        self.refusal: Exception | None = None
        self.calls: list[LeanCall] = []
        """To be closed at the end."""

    def enter(self, caller: Caller, stream: Writing) -> int:
        self.streams.put_nowait((caller, stream))
        return 7

    def take(self, number: int, caller: Caller, message: Buffer) -> None:
        assert number == 7
        if self.refusal is not None:
            raise self.refusal
        self.messages.put_nowait(bytes(message))

    def left(self, number: int, caller: Caller) -> None:
        assert number == 7
        self.ends.put_nowait(caller)
