"""Each kind of call passes for a role that may make it, and ends with PERMISSION_DENIED for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from flexpie.core.errors import ErrorCode
from flexpie.security import access
from flexpie.security.access import AccessControl
from flexpie.security.authority import create_authority, issue
from flexpie.security.certificates import load_credentials
from flexpie.security.channels import open_channel
from flexpie.security.credentials import Credentials
from flexpie.security.roles import Role
from flexpie.wire.status import error_from_rpc

_Context = grpc.aio.ServicerContext[Any, Any]
_ROLES = {f"/t.S/{name}": frozenset({Role.OPERATOR}) for name in ("Unary", "Gather", "Spread", "Chat", "Written")}


async def _unary(request: bytes, context: _Context) -> bytes:
    return request


async def _gather(requests: AsyncIterator[bytes], context: _Context) -> bytes:
    return b"".join([request async for request in requests])


async def _spread(request: bytes, context: _Context) -> AsyncIterator[bytes]:
    for index in range(3):
        yield request[index : index + 1]


async def _chat(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def _written(_: object, context: _Context) -> None:
    while isinstance(message := await context.read(), bytes):
        await context.write(message)


_HANDLERS: dict[str, Any] = {
    "Unary": grpc.unary_unary_rpc_method_handler(_unary),
    "Gather": grpc.stream_unary_rpc_method_handler(_gather),
    "Spread": grpc.unary_stream_rpc_method_handler(_spread),
    "Chat": grpc.stream_stream_rpc_method_handler(_chat),
    "Written": grpc.stream_stream_rpc_method_handler(_written),
    "Unlisted": grpc.unary_unary_rpc_method_handler(_unary),
}


def _call(channel: Any, name: str) -> bytes:
    path = f"/t.S/{name}"
    match name:
        case "Gather":
            reply: bytes = channel.stream_unary(path)(iter([b"a", b"b", b"c"]), timeout=20)
            return reply
        case "Spread":
            return b"".join(channel.unary_stream(path)(b"abc", timeout=20))
        case "Chat" | "Written":
            return b"".join(channel.stream_stream(path)(iter([b"a", b"bc"]), timeout=20))
        case _:
            reply = channel.unary_unary(path)(b"abc", timeout=20)
            return reply


def _refused(channel: Any, name: str, status: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        _call(channel, name)
    assert refused.value.code() is status
    if status is grpc.StatusCode.PERMISSION_DENIED:
        error = error_from_rpc(refused.value, "the server")
        assert error.code is ErrorCode.PERMISSION_DENIED
        assert f"may not call {name}" in error.message
        assert name == "Unlisted" or "operator" in error.remedy


def _ask(address: str, credentials: dict[Role, Credentials]) -> None:
    with open_channel(address, [], credentials[Role.OPERATOR]) as channel:
        for name in ("Unary", "Gather", "Spread", "Chat", "Written"):
            assert _call(channel, name) == b"abc", name
        _refused(channel, "Unlisted", grpc.StatusCode.PERMISSION_DENIED)
        _refused(channel, "Unknown", grpc.StatusCode.UNIMPLEMENTED)
    with open_channel(address, [], credentials[Role.CLIENT]) as channel:
        for name in _HANDLERS:
            for _ in range(2):
                _refused(channel, name, grpc.StatusCode.PERMISSION_DENIED)


def _credentials(folder: Path) -> dict[Role, Credentials]:
    create_authority(folder)
    addresses = {Role.WORKER: ["127.0.0.1"]}
    return {
        role: load_credentials(issue(folder, role, "x", addresses.get(role, ())))
        for role in (Role.WORKER, Role.OPERATOR, Role.CLIENT)
    }


def test_calls_pass_or_end_by_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = _credentials(tmp_path)
    monkeypatch.setattr("flexpie.security.roles.ALLOWED", _ROLES)
    monkeypatch.setattr(access, "ALLOWED", _ROLES)

    async def run() -> None:
        server = grpc.aio.server(interceptors=[AccessControl()])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", _HANDLERS),))
        port = server.add_secure_port("127.0.0.1:0", credentials[Role.WORKER].server)
        await server.start()
        try:
            await asyncio.to_thread(_ask, f"127.0.0.1:{port}", credentials)
        finally:
            await server.stop(None)

    asyncio.run(run())
    refusals = [message for message in caplog.messages if message.startswith("refused ")]
    assert len(refusals) == 1 + len(_HANDLERS)
    assert "call=/t.S/Unary name='x' peer=ipv4:127.0.0.1:" in caplog.text
