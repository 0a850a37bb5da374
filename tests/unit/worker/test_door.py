"""Streams through a worker's second port: gRPC's own clients and ours, and what else comes in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, cast

import grpc
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire import lean_call
from flexpie.wire.framing import Failure, encode_frame
from flexpie.wire.lean_call import LeanCall
from flexpie.wire.limits import (
    DEPLOYMENT_KEY,
    EXCHANGE_METHOD,
    MASTER_KEY,
    PROTOCOL,
    PROTOCOL_KEY,
    SOURCE_KEY,
    channel_options,
)
from flexpie.wire.status import error_from_rpc
from flexpie.worker import door as door_module
from flexpie.worker.door import Door
from flexpie.worker.streams import PeerServicer
from tests.unit.worker.taking import CALLER, Taking

METADATA = ((PROTOCOL_KEY, str(PROTOCOL)), (SOURCE_KEY, "3"), (DEPLOYMENT_KEY, "d"))
SIZES = (0, 1, 100, 16_379, 16_380, 70_000, 300_000)


def run(scenario: Callable[[Taking, Door], Coroutine[Any, Any, None]], **limits: Any) -> None:
    """Run a scenario with an open door."""

    async def bounded() -> None:
        taking = Taking()
        door = Door(cast("PeerServicer", taking), **limits)
        await door.open("localhost")
        try:
            await asyncio.wait_for(scenario(taking, door), 30)
        finally:
            door.leave()
            door.close()
            for call in taking.calls:
                await call.close()

    asyncio.run(bounded())


async def called(taking: Taking, metadata: Any = METADATA, method: str = EXCHANGE_METHOD) -> tuple[LeanCall, list[Any]]:
    """A stream of ours through the door, and the frames that come back."""
    frames: list[Any] = []
    call = LeanCall("bert", method, metadata, lambda frame: frames.append((frame.request_id, frame.content)))
    taking.calls.append(call)
    await call.open("127.0.0.1", taking.door, 2**28)
    return call, frames


def test_it_brings_messages_and_takes_failures_back() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        call, failures = await called(taking)
        caller, stream = await taking.streams.get()
        assert caller == CALLER
        assert (await call.accepted())[PROTOCOL_KEY] == str(PROTOCOL)
        for size in SIZES:
            call.put(bytes(size))
        assert [len(await taking.messages.get()) for _ in SIZES] == list(SIZES)
        failure = Failure(ErrorCode.OVERLOADED, "full", "wait")
        stream.put(encode_frame("d", 5, 0, failure))
        door.leave()
        assert await call.over is None
        assert failures == [(5, failure)]
        assert await taking.ends.get() == CALLER

    run(scenario)


def test_a_client_of_grpc_is_understood() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{taking.door.port}", options=channel_options()) as channel:
            call: Any = channel.stream_stream(EXCHANGE_METHOD)(metadata=METADATA)
            assert dict(await call.initial_metadata())[PROTOCOL_KEY] == str(PROTOCOL)
            _, stream = await taking.streams.get()
            for size in SIZES:
                await call.write(bytes(size))
            assert [len(await taking.messages.get()) for _ in SIZES] == list(SIZES)
            for size in SIZES:
                stream.put(bytes(size))
            assert [len(await call.read()) for _ in SIZES] == list(SIZES)
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
            assert await taking.ends.get() == CALLER

    run(scenario)


def test_a_server_of_grpc_is_understood() -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def exchange(_: object, context: Any) -> None:
        assert dict(context.invocation_metadata())[SOURCE_KEY] == "3"
        await context.send_initial_metadata(((PROTOCOL_KEY, str(PROTOCOL)),))
        for _size in SIZES:
            received.put_nowait(await context.read())
        await context.write(encode_frame("d", 5, 0, Failure(ErrorCode.OVERLOADED, "full")))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone – für immer")

    async def scenario(taking: Taking, door: Door) -> None:
        server = grpc.aio.server()
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(exchange)
        service, _, name = EXCHANGE_METHOD[1:].partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        taking.door = lean_call.DoorAddress(server.add_insecure_port("127.0.0.1:0"), "")
        await server.start()
        try:
            call, failures = await called(taking)
            assert (await call.accepted())[PROTOCOL_KEY] == str(PROTOCOL)
            for size in SIZES:
                call.put(bytes(size))
            assert [len(await received.get()) for _ in SIZES] == list(SIZES)
            error = await call.over
            assert error is not None
            assert error.code is ErrorCode.DEVICE_UNREACHABLE
            assert "gone – für immer" in error.message
            assert failures == [(5, Failure(ErrorCode.OVERLOADED, "full"))]
        finally:
            await server.stop(None)

    run(scenario)


@pytest.mark.parametrize(
    ("metadata", "method", "code", "text"),
    [
        (((PROTOCOL_KEY, "1"),), EXCHANGE_METHOD, ErrorCode.VERSION_MISMATCH, "protocol 1"),
        (METADATA[:1], EXCHANGE_METHOD, ErrorCode.INVALID_ARGUMENT, "must name its source"),
        (METADATA, "/other/Method", ErrorCode.VERSION_MISMATCH, "not /other/Method"),
    ],
)
def test_what_is_refused_is_told_why(metadata: Any, method: str, code: ErrorCode, text: str) -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        call, _ = await called(taking, metadata, method)
        error = await call.over
        assert error is not None
        assert error.code is code
        assert text in error.message
        async with grpc.aio.insecure_channel(f"127.0.0.1:{taking.door.port}") as channel:
            theirs: Any = channel.stream_stream(method)(metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await theirs.read()
            assert error_from_rpc(raised.value, "bert").code is code
        assert taking.streams.empty()

    run(scenario)


def test_a_message_that_is_no_frame_ends_the_stream() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        for refusal, code in (
            (FlexPieError(ErrorCode.CORRUPT_PACKAGE, "no frame", "none"), ErrorCode.CORRUPT_PACKAGE),
            (ValueError("a defect"), ErrorCode.INTERNAL),
        ):
            taking.refusal = refusal
            call, _ = await called(taking)
            call.put(b"x")
            error = await call.over
            assert error is not None
            assert error.code is code
            assert await taking.ends.get() == CALLER
            with pytest.raises(FlexPieError) as raised:
                call.put(b"late")
            assert raised.value.code is ErrorCode.DEVICE_UNREACHABLE

    run(scenario)


def test_a_master_may_come_in_as_well() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        await called(taking, ((PROTOCOL_KEY, str(PROTOCOL)), (SOURCE_KEY, "master"), (MASTER_KEY, "m")))
        assert (await taking.streams.get())[0].master_id == "m"

    run(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_who_is_near_comes_in_by_a_unix_socket() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        await door.open("localhost", unix_socket=True)
        port, name = taking.door
        taking.door = lean_call.DoorAddress(1, name)  # there is nobody
        call, _ = await called(taking)
        call.put(b"from near")
        assert await taking.messages.get() == b"from near"
        call.abort()
        taking.door = lean_call.DoorAddress(port, "flexpie-of-another-machine")
        call, _ = await called(taking)
        call.put(b"from afar")
        assert await taking.messages.get() == b"from afar"

    run(scenario)


def test_who_says_nothing_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "HANDSHAKE_MILLISECONDS", 50)

    async def scenario(taking: Taking, door: Door) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", taking.door.port)
        while await reader.read(1000):
            pass  # until it closes
        writer.close()

    run(scenario)


def test_more_connections_than_allowed_are_closed() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        first, _ = await called(taking)
        await first.accepted()
        second, _ = await called(taking)
        error = await second.over
        assert error is not None
        assert error.code is ErrorCode.DEVICE_UNREACHABLE
        first.put(b"still there")
        assert await taking.messages.get() == b"still there"

    run(scenario, max_connections=1)


def test_an_address_of_another_machine_is_not_a_port_in_use() -> None:
    with pytest.raises(FlexPieError, match=r"Cannot listen on 192\.0\.2\.1") as raised:
        asyncio.run(Door(cast("PeerServicer", Taking())).open("192.0.2.1"))
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_port_that_is_taken_is_named() -> None:
    async def scenario(taking: Taking, door: Door) -> None:
        second = Door(cast("PeerServicer", Taking()))
        with pytest.raises(FlexPieError, match=f"Port {taking.door.port} on 127.0.0.1 is in use") as raised:
            await second.open("localhost", taking.door.port)
        assert raised.value.code is ErrorCode.PORT_IN_USE
        assert raised.value.remedy == "Choose another --peer-port, or 0 for any free one."

    run(scenario)
