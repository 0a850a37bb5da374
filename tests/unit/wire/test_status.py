"""Every error has a status, and arrives at the client as the error that was raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.status import STATUS_OF, error_from_rpc, error_metadata, errors_as_status


class Refused(grpc.RpcError):
    """What a sync call raises."""

    def __init__(self, status: grpc.StatusCode, details: str, trailing: Iterable[tuple[str, str | bytes]] = ()) -> None:
        self._status, self._details, self._trailing = status, details, tuple(trailing)

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_a_status_and_comes_back(code: ErrorCode) -> None:
    error = FlexPieError(code, "what happened", "what to do: 3 × 4")
    found = error_from_rpc(Refused(STATUS_OF[code], str(error), error_metadata(error)), "the master")
    assert (found.code, found.message, found.remedy) == (error.code, error.message, error.remedy)


def test_no_status_is_ok() -> None:
    assert set(STATUS_OF) == set(ErrorCode)
    assert grpc.StatusCode.OK not in STATUS_OF.values()


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
def test_statuses_of_other_servers_become_errors(status: grpc.StatusCode) -> None:
    error = error_from_rpc(Refused(status, "details"), "worker a")
    assert isinstance(error.code, ErrorCode)
    assert "worker a" in error.message
    assert "details" in error.message


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Failed to connect to remote "
            "host: Connection refused",
            "Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv6:%5B::1%5D:9: No route to host",
            "No route to host",
        ),
        (
            "errors resolving a.b:9: [field:hostname lookup error:address lookup failed for a.b:9: Domain name not "
            "found]",
            "its name is not known here",
        ),
        ("Socket closed", "it closed the connection"),
    ],
)
def test_what_grpc_says_of_connections_is_told_in_short(details: str, reason: str) -> None:
    error = error_from_rpc(Refused(grpc.StatusCode.UNAVAILABLE, details), "device a")
    assert error.message == f"device a does not answer: {reason}."


def test_a_code_from_a_newer_version_falls_back_to_the_status() -> None:
    trailing = (("flexpie-error-code", "NEWER_THAN_THIS"),)
    assert error_from_rpc(Refused(grpc.StatusCode.NOT_FOUND, "x", trailing), "m").code is ErrorCode.MODEL_NOT_FOUND


class RefusingHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """A servicer whose calls fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        async with errors_as_status(context):
            raise self._error
        return health_pb2.HealthCheckResponse()


async def call_of(error: Exception) -> FlexPieError:
    """What a client makes of a call that fails with `error`."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(RefusingHealth(error), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    except grpc.aio.AioRpcError as failed:
        return error_from_rpc(failed, "the server")
    finally:
        await server.stop(None)
    raise AssertionError("the call did not fail")


def test_errors_cross_a_real_connection() -> None:
    error = asyncio.run(call_of(FlexPieError(ErrorCode.OVERLOADED, "zu voll: 3 × 4", "später")))
    assert (error.code, error.message, error.remedy) == (ErrorCode.OVERLOADED, "zu voll: 3 × 4", "später")


def test_a_defect_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "flexpie.wire.status"):  # a kept traceback keeps the server alive
        error = asyncio.run(call_of(KeyError("surprise")))
    assert error.code is ErrorCode.INTERNAL
    assert "surprise" in error.message


@pytest.mark.parametrize("character", ["x", "ü", "%", "\x01", "€"])
def test_long_errors_are_shortened_to_what_headers_may_take(character: str) -> None:
    error = asyncio.run(call_of(FlexPieError(ErrorCode.INVALID_INPUT, character * 30_000, character * 30_000)))
    assert error.code is ErrorCode.INVALID_INPUT
    for text in (error.message, error.remedy):
        assert text.startswith(character * 100)
        assert text.endswith(" …")


def test_a_message_that_cannot_be_read_is_the_callers_mistake(caplog: pytest.LogCaptureFixture) -> None:
    error = asyncio.run(call_of(DecodeError("Error parsing message")))
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert not caplog.records


def test_a_caller_that_is_gone_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        async def abort(self, *arguments: object) -> None:
            raise grpc.aio.InternalError("the call has ended")

    async def answer() -> None:
        context: Any = Gone()
        async with errors_as_status(context):
            raise FlexPieError(ErrorCode.DEADLINE_EXCEEDED, "too late")

    with pytest.raises(asyncio.CancelledError):  # which gRPC takes for the end of the call
        asyncio.run(answer())
    assert not caplog.records
