"""Heartbeats: a stream on which a worker says that it is there, again and again, and what it has noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from flexpie.core.heartbeat import Heartbeat, MissCounter
from flexpie.wire.v1 import peer_pb2

BEAT_METHOD = "/flexpie.wire.v1.PeerService/Beat"

OnBeat = Callable[[peer_pb2.BeatReply], None]


class BeatListener:
    """Listens to one worker's heart."""

    def __init__(self, heartbeat: Heartbeat, on_beat: OnBeat, *, with_reports: bool = False) -> None:
        """`on_beat` gets every beat; with the worker's reports if they are asked for."""
        self._heartbeat = heartbeat
        self._on_beat = on_beat
        self._with_reports = with_reports
        self._counter = MissCounter(heartbeat.misses)

    def heard(self) -> None:
        """Something else came from the worker."""
        self._counter.heard()

    async def listen(self, channel: grpc.aio.Channel) -> str:
        """Listen until nothing was heard for too long; returns that in words. Raises AioRpcError when the stream ends
        in any other way."""
        interval = self._heartbeat.interval_seconds
        method: Any = channel.unary_stream(
            BEAT_METHOD,
            request_serializer=peer_pb2.BeatRequest.SerializeToString,
            response_deserializer=peer_pb2.BeatReply.FromString,
        )
        milliseconds = max(1, round(interval * 1000))
        call = method(peer_pb2.BeatRequest(interval_milliseconds=milliseconds, with_reports=self._with_reports))
        self._counter = MissCounter(self._heartbeat.misses)
        reading = asyncio.create_task(self._read(call))
        try:
            while True:
                await asyncio.wait({reading}, timeout=interval)
                if reading.done():
                    reading.result()
                    return "it ended its heartbeats"
                if self._counter.tick():
                    return f"it did not answer for {self._heartbeat.dead_after_seconds:g} s"
        finally:
            reading.cancel()
            call.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, call: Any) -> None:
        async for beat in call:
            self._counter.heard()
            self._on_beat(beat)
