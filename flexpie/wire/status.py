"""Errors of the catalogue as gRPC statuses, and back.

The status tells any gRPC client what kind of failure it is, and its details are the message and the remedy; trailing
metadata carries the code and the remedy, so that FlexPie's own clients see the error that was raised.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from flexpie.core.errors import ErrorCode, FlexPieError

CODE_KEY = "flexpie-error-code"
REMEDY_KEY = "flexpie-error-remedy-bin"
"""UTF-8, as plain metadata is ASCII only."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""After how many milliseconds the call may be tried again; clients of gRPC that have a retry policy go by it too."""

RETRY_SECONDS = {ErrorCode.OVERLOADED: 0.1, ErrorCode.SHUTTING_DOWN: 0.5}
"""Of errors that pass, where nobody knows better."""

STATUS_OF: dict[ErrorCode, grpc.StatusCode] = {
    ErrorCode.INVALID_MODEL: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNSUPPORTED_MODEL: grpc.StatusCode.UNIMPLEMENTED,
    ErrorCode.INVALID_SHAPE: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_INPUT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_CLUSTER: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_PLAN: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_TRACES: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.MODEL_NOT_READY: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.MODEL_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.OUT_OF_MEMORY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.DEVICE_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.VERSION_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.CORRUPT_PACKAGE: grpc.StatusCode.DATA_LOSS,
    ErrorCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.CANCELLED: grpc.StatusCode.CANCELLED,
    ErrorCode.EXECUTION_FAILED: grpc.StatusCode.INTERNAL,
    ErrorCode.PORT_IN_USE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
}

# For statuses that gRPC itself raises, or a server that is not FlexPie's.
_CODE_OF = {
    grpc.StatusCode.UNAVAILABLE: ErrorCode.DEVICE_UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED: ErrorCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCode.TOO_LARGE,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.VERSION_MISMATCH,
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND: ErrorCode.MODEL_NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: ErrorCode.MODEL_EXISTS,
    grpc.StatusCode.DATA_LOSS: ErrorCode.CORRUPT_PACKAGE,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCode.PERMISSION_DENIED,
}

# "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: ..."
_CONNECTING = re.compile(r"^failed to connect to all addresses; last error: ([A-Z_]+: )?(ip\S+: )?(Failed to .*?: )?")

MAX_MESSAGE_BYTES = 3000
MAX_REMEDY_BYTES = 1000
"""Of an error as gRPC encodes it. They travel as headers, and a call with more than 8 KiB of those fails with that
alone."""

_log = logging.getLogger(__name__)


def error_metadata(error: FlexPieError) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that carries what a status cannot."""
    metadata: list[tuple[str, str | bytes]] = [(CODE_KEY, error.code.value), (REMEDY_KEY, error.remedy.encode())]
    seconds = RETRY_SECONDS.get(error.code) if error.retry_seconds is None else error.retry_seconds
    if seconds is not None:
        metadata.append((PUSHBACK_KEY, str(max(1, round(seconds * 1000)))))
    return tuple(metadata)


def error_from_rpc(error: grpc.RpcError, peer: str) -> FlexPieError:
    """The error that a call to `peer` (as the user knows it) failed with: sync or asyncio call, any server."""
    status, details, trailing = _status(error)
    metadata = dict(trailing)
    code = metadata.get(CODE_KEY)
    if isinstance(code, str) and code in ErrorCode.__members__:
        remedy = metadata.get(REMEDY_KEY, b"")
        text = remedy.decode("utf-8", "replace") if isinstance(remedy, bytes) else remedy
        pushback = _pushback_seconds(metadata.get(PUSHBACK_KEY))
        return FlexPieError(ErrorCode[code], details.removesuffix(f" {text}"), text, retry_seconds=pushback)
    known = _CODE_OF.get(status, ErrorCode.INTERNAL)
    if known is ErrorCode.DEVICE_UNREACHABLE:
        reason, remedy = _unreachable(details)
        return FlexPieError(known, f"{peer} does not answer: {reason}.", remedy)
    if known is ErrorCode.VERSION_MISMATCH:
        return FlexPieError(
            known,
            f"{peer} does not know this call: {details.rstrip('!.')}.",
            "Check that the address is right (masters and workers have ports of their own), and that both ends run the "
            "same version of FlexPie.",
        )
    return FlexPieError(known, f"{peer}: {details or status.name}")


@asynccontextmanager
async def errors_as_status(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Ends the call with the status of an error that is raised inside; a defect is logged with its traceback."""
    try:
        yield
    except FlexPieError as error:
        await abort(context, error)
    except DecodeError as error:  # in a stream of messages, which are decoded one by one
        what = f"A message of the call cannot be read: {error}."
        await abort(context, FlexPieError(ErrorCode.INVALID_ARGUMENT, what, "Run the same version on both ends."))
    except (grpc.RpcError, grpc.aio.AbortError):
        raise
    except Exception as error:
        _log.exception("defect while answering a call")
        text = f"{type(error).__name__}: {error}"
        await abort(context, FlexPieError(ErrorCode.INTERNAL, text, "Please report this, with the server's log."))


def shortened(error: FlexPieError) -> FlexPieError:
    """The error with no more text than headers carry."""
    message, remedy = _shortened(error.message, MAX_MESSAGE_BYTES), _shortened(error.remedy, MAX_REMEDY_BYTES)
    return FlexPieError(error.code, message, remedy, retry_seconds=error.retry_seconds)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: FlexPieError) -> None:
    """End a call with an error; never returns."""
    error = shortened(error)
    try:
        await context.abort(STATUS_OF[error.code], str(error), error_metadata(error))
    except grpc.aio.InternalError as gone:  # the caller, at this very moment: there is nobody to tell
        raise asyncio.CancelledError from gone


def _pushback_seconds(value: str | bytes | None) -> float | None:
    """As gRPC's own clients read it; a negative number means not to try again."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value or ""
    return int(text) / 1000 if text.isascii() and text.isdecimal() and len(text) < 8 else None


def _shortened(text: str, limit_bytes: int) -> str:
    """A text that takes no more than so many bytes (and a few) in a header."""
    size = 0
    for index, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        size += 1 if plain else 3 * len(character.encode("utf-8", "replace"))
        if size > limit_bytes:
            return text[:index] + " …"
    return text


_REASONS = (
    ("Domain name not found", "its name is not known here", ""),
    (
        "Hostname Verification Check failed",
        "its certificate is for other addresses",
        "Issue its certificate with --address for the address that is called.",
    ),
    ("certificate has expired", "its certificate has expired", "Issue a new one with `flexpie certs issue`."),
    (
        "unsupported certificate purpose",
        "its certificate is for a caller, not for a server",
        "Masters and workers need certificates of their own roles.",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "it does not use TLS, but this end does",
        "Start it with --tls-dir, or call it without.",
    ),
    (
        "Tls handshake failed",
        "its certificate is from another authority",
        "Both ends need certificates of the same authority.",
    ),
    (
        "Socket closed",
        "it closed the connection",
        "Check that it runs. If it uses TLS, call it with a certificate of its authority (--tls-dir).",
    ),
)
"""What gRPC says of a connection that failed, what it means, and what to do; an empty remedy is the usual one."""


def _unreachable(details: str) -> tuple[str, str]:
    """Why a connection failed, without what only gRPC's authors need, and what to do."""
    found = next(((reason, remedy) for sign, reason, remedy in _REASONS if sign in details), None)
    reason, remedy = found or (_CONNECTING.sub("", details).rstrip("."), "")
    return reason, remedy or "Check that it runs, and that its address is right."


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, Iterable[tuple[str, str | bytes]]]:
    """Status, details and trailing metadata; sync and asyncio errors have the same methods without a common type."""
    call: Any = error
    status = call.code()
    return (
        status if isinstance(status, grpc.StatusCode) else grpc.StatusCode.UNKNOWN,
        call.details() or "",
        call.trailing_metadata() or (),
    )
