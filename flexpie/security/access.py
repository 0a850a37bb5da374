"""Lets a server's callers do what their certificates allow, and nothing else."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.refusal_log import RefusalLog
from flexpie.security.roles import ALLOWED, Role, is_allowed, role_of
from flexpie.wire.status import abort

if TYPE_CHECKING:  # grpc's class takes no parameters at run time
    _Handler = grpc.RpcMethodHandler[Any, Any]
_Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)


class AccessControl(grpc.aio.ServerInterceptor):
    """Ends calls that their caller's role may not make with ``PERMISSION_DENIED``, before anything else sees them."""

    def __init__(self) -> None:
        self._refusals = RefusalLog(_log)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self._guarded(handler, handler_call_details.method)

    async def _check(self, method: str, context: _Context) -> None:
        role, name = caller_of(context.auth_context())
        if is_allowed(method, role, dict(context.invocation_metadata() or ())):
            return
        await abort(context, refusal_of(self._refusals, method, role, name, context.peer()))

    def _guarded(self, handler: _Handler, method: str) -> _Handler:
        """The same handler behind the check."""
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
        behaviour = getattr(handler, kind)

        async def answer(request: Any, context: _Context) -> Any:
            await self._check(method, context)
            return await behaviour(request, context)

        async def generate(request: Any, context: _Context) -> AsyncIterator[Any]:
            await self._check(method, context)
            async with aclosing(behaviour(request, context)) as messages:
                async for message in messages:
                    yield message

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        guarded: _Handler = make(
            generate if inspect.isasyncgenfunction(behaviour) else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return guarded


def refusal_of(refusals: RefusalLog, method: str, role: Role | None, name: str, peer: str) -> FlexPieError:
    """Log that a caller may not make a call; returns what to tell it."""
    title = "a certificate without a role" if role is None else f"a certificate for the role {role.value}"
    refusals.note((method, role, name), f"call={method} name={name!r} peer={peer}: {title}")
    allowed = sorted(role.value for role in ALLOWED.get(method, ()))
    remedy = f"It needs one for the role {' or '.join(allowed)}." if allowed else ""
    what = f"{title.capitalize()} may not call {method.rpartition('/')[2]}."
    return FlexPieError(ErrorCode.PERMISSION_DENIED, what, remedy)


def caller_of(identity: Mapping[str, Any]) -> tuple[Role | None, str]:
    """Role and name of a caller, from what gRPC knows of its certificate."""
    uris = [uri.decode("utf-8", "replace") for uri in identity.get("peer_uri", ())]
    names = [name.decode("utf-8", "replace") for name in identity.get("x509_common_name", ())]
    return role_of(uris), names[0] if names else ""


def caller_in(certificate: Any) -> tuple[Role | None, str]:
    """`caller_of`, from a certificate as `ssl.SSLSocket.getpeercert` returns it; None is no certificate."""
    found = certificate or {}
    uris = [value for kind, value in found.get("subjectAltName", ()) if kind == "URI"]
    names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
    return role_of(uris), names[0] if names else ""
