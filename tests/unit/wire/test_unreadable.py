"""Bytes that are no message, sent to calls of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from flexpie.core.errors import ErrorCode
from flexpie.wire.status import CODE_KEY
from flexpie.wire.unreadable import UnreadableMessages
from flexpie.wire.v1.worker_pb2 import UndeployRequest

GOOD = UndeployRequest(deployment_id="d").SerializeToString()
BAD = b"\xff\xff\xff"


async def _one(request: UndeployRequest, context: object) -> UndeployRequest:
    return request


async def _many(request: UndeployRequest, context: object) -> AsyncIterator[UndeployRequest]:
    yield request


async def _last(requests: AsyncIterator[UndeployRequest], context: object) -> UndeployRequest:
    return [request async for request in requests][-1]


async def _each(requests: AsyncIterator[UndeployRequest], context: object) -> AsyncIterator[UndeployRequest]:
    async for request in requests:
        yield request


CALLS = {"unary_unary": _one, "unary_stream": _many, "stream_unary": _last, "stream_stream": _each}


async def _call(kind: str, message: bytes) -> list[bytes]:
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    handler = make(CALLS[kind], UndeployRequest.FromString, UndeployRequest.SerializeToString)
    server = grpc.aio.server(interceptors=[UnreadableMessages()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = getattr(channel, kind)("/s/Call")
            call = method(iter([message]) if kind.startswith("stream") else message, timeout=20.0)
            return [reply async for reply in call] if kind.endswith("stream") else [await call]
    finally:
        await server.stop(None)


@pytest.mark.parametrize("kind", CALLS)
def test_a_message_passes_and_other_bytes_are_an_invalid_argument(kind: str) -> None:
    assert asyncio.run(_call(kind, GOOD)) == [GOOD]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(_call(kind, BAD))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in str(caught.value.details())
    assert dict(caught.value.trailing_metadata() or ())[CODE_KEY] == ErrorCode.INVALID_ARGUMENT.value


def test_an_unknown_call_stays_unknown() -> None:
    async def call() -> None:
        server = grpc.aio.server(interceptors=[UnreadableMessages()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                method: Any = channel.unary_unary("/s/Nothing")
                await method(GOOD, timeout=20.0)
        finally:
            await server.stop(None)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(call())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
