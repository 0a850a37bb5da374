"""The stream to a peer: opened, used, broken, opened again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.framing import Data, Failure, encode_frame
from flexpie.wire.limits import (
    DEPLOYMENT_KEY,
    PROTOCOL,
    PROTOCOL_KEY,
    SOURCE_KEY,
    channel_options,
    server_options,
)
from flexpie.wire.status import abort
from flexpie.worker import peers
from flexpie.worker.events import Event, FailureArrived, PeerLost, RequestKey
from flexpie.worker.peers import Peer, PeerLink

LOST = PeerLost("d", 1, receiving=False)
MESSAGE = encode_frame("d", 1, 0, Data(0, 0), [b"payload"])


class PeerServer:
    """The other end of a link, which does what a test says."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[grpc.aio.ServicerContext[Any, Any]] = asyncio.Queue()
        self.refusal: FlexPieError | None = None
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        """How each stream is to end: "in order" or "abruptly"."""

    async def __aenter__(self) -> PeerServer:
        self._server = grpc.aio.server(options=server_options())
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._exchange)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("flexpie.wire.v1.PeerService", {"Exchange": handler}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def _exchange(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self.refusal is not None:
            await abort(context, self.refusal)
        await context.send_initial_metadata(((PROTOCOL_KEY, str(PROTOCOL)),))
        await self.streams.put(context)
        if await self.ends.get() == "abruptly":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


class Scene:
    """A link with its server and what it reported."""

    def __init__(self, address: str) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.link = PeerLink(Peer("d", 0, 1, "bert", address), channel_options(), self.events.put_nowait)

    async def open_again(self) -> None:
        """Return when the link takes messages."""
        while True:
            with suppress(FlexPieError):
                self.link.send(MESSAGE)
                return
            await asyncio.sleep(0.005)


def run(scenario: Callable[[PeerServer, Scene], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario with a server and a link to it."""

    async def bounded() -> None:
        async with PeerServer() as server:
            scene = Scene(server.address)
            try:
                await asyncio.wait_for(scenario(server, scene), 30)
            finally:
                await scene.link.close()

    asyncio.run(bounded())


def test_it_says_who_it_is_and_brings_messages() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        await scene.link.opened()
        context = await server.streams.get()
        metadata = dict(context.invocation_metadata() or ())
        assert metadata[SOURCE_KEY] == "0"
        assert metadata[DEPLOYMENT_KEY] == "d"
        assert metadata[PROTOCOL_KEY] == str(PROTOCOL)
        for _ in range(3):
            scene.link.send(MESSAGE)
            assert await context.read() == MESSAGE

    run(scenario)


def test_refused_frames_are_reported() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        await scene.link.opened()
        failure = Failure(ErrorCode.MODEL_NOT_READY, "no")
        await (await server.streams.get()).write(encode_frame("d", 7, 0, failure))
        assert await scene.events.get() == FailureArrived(RequestKey("d", 7), failure)

    run(scenario)


def test_a_broken_stream_is_reported_and_opened_again() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        await scene.link.opened()
        await server.streams.get()
        server.ends.put_nowait("abruptly")
        assert await scene.events.get() == LOST
        with pytest.raises(FlexPieError, match=r"bert \(.*\) cannot be reached") as raised:
            scene.link.send(MESSAGE)
        assert raised.value.code is ErrorCode.DEVICE_UNREACHABLE
        context = await server.streams.get()
        await scene.open_again()
        assert await context.read() == MESSAGE

    run(scenario)


def test_a_peer_that_writes_no_frames_is_lost_and_tried_again() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        await scene.link.opened()
        await (await server.streams.get()).write(b"no frame")
        assert await scene.events.get() == LOST
        context = await server.streams.get()
        await scene.open_again()
        assert await context.read() == MESSAGE

    run(scenario)


def test_a_peer_that_leaves_in_order_is_no_loss() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        await scene.link.opened()
        await server.streams.get()
        server.ends.put_nowait("in order")
        await server.streams.get()  # opened again
        assert scene.events.empty()

    run(scenario)


def test_opening_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CONNECT_SECONDS", 0.5)

    async def scenario(server: PeerServer, scene: Scene) -> None:
        server.refusal = FlexPieError(ErrorCode.VERSION_MISMATCH, "another version", "update")
        with pytest.raises(FlexPieError, match="another version") as raised:
            await scene.link.opened()
        assert raised.value.code is ErrorCode.VERSION_MISMATCH
        absent = Scene("127.0.0.1:1")
        with pytest.raises(FlexPieError, match="bert") as raised:
            await absent.link.opened()
        assert raised.value.code is ErrorCode.DEVICE_UNREACHABLE
        await absent.link.close()

    run(scenario)
