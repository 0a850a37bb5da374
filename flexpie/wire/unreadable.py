"""Bytes that are no message: refused like any other wrong argument, for every call of a server.

gRPC itself would end such a call with UNKNOWN, and log a traceback for each.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from flexpie.wire.status import errors_as_status

_Handler = Any
"""A grpc.RpcMethodHandler, which is generic for type checkers only."""


class UnreadableMessages(grpc.aio.ServerInterceptor):
    """Ends a call with ``INVALID_ARGUMENT`` when a message of it cannot be read."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The handler, with a reader that does not raise outside of it."""
        handler = await continuation(handler_call_details)
        return handler if handler is None or handler.request_deserializer is None else _guarded(handler)


def _guarded(handler: _Handler) -> _Handler:
    serializer: Any = handler.response_serializer
    read: Any = handler.request_deserializer
    if handler.request_streaming:
        # Its messages are read while it runs: what that raises only has to be translated around it.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(_translated(handler.stream_stream), read, serializer)
        return grpc.stream_unary_rpc_method_handler(_translated(handler.stream_unary), read, serializer)

    def read_later(message: bytes) -> Any:
        try:
            return read(message)
        except DecodeError as error:
            return error

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(_translated(handler.unary_stream), read_later, serializer)
    return grpc.unary_unary_rpc_method_handler(_translated(handler.unary_unary), read_later, serializer)


def _translated(behaviour: Any) -> Any:
    """The behaviour of a call, within the error translator, unless its message could not be read."""

    async def yielding(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async with errors_as_status(context):
            if isinstance(request, DecodeError):
                raise request
            async with aclosing(behaviour(request, context)) as replies:
                async for reply in replies:
                    yield reply

    async def returning(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with errors_as_status(context):
            if isinstance(request, DecodeError):
                raise request
            return await behaviour(request, context)

    return yielding if inspect.isasyncgenfunction(behaviour) else returning
