"""What ends a data stream is said, a defect of ours too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from flexpie.core.program import MASTER
from flexpie.wire.framing import Cancel, encode_frame
from flexpie.worker.node import WorkerNode
from flexpie.worker.streams import Caller, PeerServicer


class _Context:
    """A stream on which one frame comes."""

    def __init__(self) -> None:
        self._frames: Iterator[bytes] = iter([encode_frame("d", 1, 0, Cancel("enough"))])

    async def read(self) -> bytes | None:
        return next(self._frames, None)


class _BrokenNode:
    def handle(self, event: object) -> None:
        raise AttributeError("a defect")


def test_a_defect_that_ends_a_stream_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    servicer = PeerServicer(cast("WorkerNode", _BrokenNode()))
    reading = servicer._read(0, Caller(MASTER, "", "m"), cast("Any", _Context()))

    async def read() -> None:
        with pytest.raises(AttributeError):
            await reading

    asyncio.run(read())
    assert "defect while taking in a frame" in caplog.text
