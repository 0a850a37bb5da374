"""The stream to a peer: opened, used, broken, opened again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing, suppress
from typing import Any, cast

import grpc
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.wire.framing import Data, Failure, encode_frame
from flexpie.wire.lean_call import DoorAddress, door_handler
from flexpie.wire.limits import (
    DEPLOYMENT_KEY,
    PROTOCOL,
    PROTOCOL_KEY,
    SOURCE_KEY,
    channel_options,
    server_options,
)
from flexpie.wire.status import abort
from flexpie.wire.v1 import peer_pb2
from flexpie.worker import peers
from flexpie.worker.door import Door
from flexpie.worker.events import Event, FailureArrived, PeerLost, RequestKey
from flexpie.worker.peer_watch import PeerWatches
from flexpie.worker.peers import Peer, PeerLink
from flexpie.worker.streams import PeerServicer
from tests.unit.worker.taking import Taking

LOST = PeerLost("d", 1, receiving=False)
MESSAGE = encode_frame("d", 1, 0, Data(0, 0), [b"payload"])


class PeerServer:
    """The other end of a link, which does what a test says."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[grpc.aio.ServicerContext[Any, Any]] = asyncio.Queue()
        self.refusal: FlexPieError | None = None
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        """How each stream is to end: "in order" or "abruptly"."""
        self.silent = False
        """Whether its heart stands still."""
        self.door_port = 0

    async def __aenter__(self) -> PeerServer:
        self._server = grpc.aio.server(options=server_options())
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._exchange)
        handlers = {
            "Exchange": handler,
            "Beat": self._beat_handler(),
            "Door": door_handler(lambda: DoorAddress(self.door_port, "")),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("flexpie.wire.v1.PeerService", handlers),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def _beat_handler(self) -> Any:
        async def beat(
            request: peer_pb2.BeatRequest, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[peer_pb2.BeatReply]:
            while True:
                if not self.silent:
                    yield peer_pb2.BeatReply()
                await asyncio.sleep(request.interval_milliseconds / 1000)

        return grpc.unary_stream_rpc_method_handler(
            beat,
            request_deserializer=peer_pb2.BeatRequest.FromString,
            response_serializer=peer_pb2.BeatReply.SerializeToString,
        )

    async def _exchange(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self.refusal is not None:
            await abort(context, self.refusal)
        await context.send_initial_metadata(((PROTOCOL_KEY, str(PROTOCOL)),))
        await self.streams.put(context)
        if await self.ends.get() == "abruptly":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


class Scene:
    """A link with its server and what it reported."""

    def __init__(self, address: str, dead_after_seconds: float = 10.0) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.watches = PeerWatches(channel_options())
        self.watches.heartbeat = Heartbeat(dead_after_seconds)
        peer = Peer("d", 0, 1, "bert", address)
        self.link = PeerLink(peer, channel_options(), self.watches, self.events.put_nowait)

    async def open_again(self) -> None:
        """Return when the link takes messages."""
        while True:
            with suppress(FlexPieError):
                self.link.send(MESSAGE)
                return
            await asyncio.sleep(0.005)


def run(scenario: Callable[[PeerServer, Scene], Coroutine[Any, Any, None]], dead_after_seconds: float = 10.0) -> None:
    """Run a scenario with a server and a link to it."""

    async def bounded() -> None:
        async with PeerServer() as server:
            scene = Scene(server.address, dead_after_seconds)
            try:
                await asyncio.wait_for(scenario(server, scene), 30)
            finally:
                await scene.link.close()
                await scene.watches.close()

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


def test_it_goes_through_the_door_of_the_peer_and_comes_back() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        taking = Taking()
        for _ in range(2):
            door = Door(cast("PeerServicer", taking))
            await door.open("localhost", server.door_port)
            server.door_port = taking.door.port
            (caller, _stream) = await taking.streams.get()
            assert (caller.source, caller.deployment_id) == (0, "d")
            await scene.open_again()
            assert await taking.messages.get() == MESSAGE
            door.close()  # abruptly
            assert await scene.events.get() == LOST
            with pytest.raises(FlexPieError, match=r"bert \(.*\) cannot be reached"):
                scene.link.send(MESSAGE)
            door.leave()
        assert server.streams.empty()

    run(scenario)


def test_a_door_that_cannot_be_reached_is_done_without() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        with closing(socket.socket()) as taken:  # but nobody listens
            taken.bind(("127.0.0.1", 0))
            server.door_port = taken.getsockname()[1]
            await scene.link.opened()
            scene.link.send(MESSAGE)
            assert await (await server.streams.get()).read() == MESSAGE

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


def test_a_peer_that_says_nothing_is_given_up_and_taken_back() -> None:
    async def scenario(server: PeerServer, scene: Scene) -> None:
        await scene.link.opened()
        server.silent = True
        assert await scene.events.get() == PeerLost("d", 1, receiving=False)
        with pytest.raises(FlexPieError, match="cannot be reached"):
            scene.link.send(MESSAGE)
        assert scene.watches.unreachable == [server.address]
        assert not await scene.watches.check(server.address)
        server.silent = False
        await scene.open_again()
        assert await scene.watches.check(server.address)

    run(scenario, dead_after_seconds=0.5)
