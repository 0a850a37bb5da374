"""The headers and trailers of gRPC over HTTP/2: who is called with what metadata, and how a call ended."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

import grpc

from flexpie.core.errors import FlexPieError
from flexpie.wire.http2 import Fields
from flexpie.wire.status import STATUS_OF, error_from_rpc, error_metadata, shortened

Metadata = Sequence[tuple[str, str | bytes]]

_NOT_PLAIN = re.compile(rb"[^ -$&-~]")
_STATUS = {status.value[0]: status for status in grpc.StatusCode}


def request_fields(authority: str, method: str, metadata: Metadata) -> Fields:
    """The headers that begin a call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *_encoded(metadata),
    ]


def response_fields(metadata: Metadata) -> Fields:
    """The headers of a server that takes a call."""
    return [(b":status", b"200"), (b"content-type", b"application/grpc"), *_encoded(metadata)]


def trailers(error: FlexPieError | None) -> Fields:
    """The end of a call, in order or with an error."""
    if error is None:
        return [(b"grpc-status", b"0")]
    error = shortened(error)
    message = _NOT_PLAIN.sub(lambda found: b"%%%02X" % ord(found[0]), str(error).encode())
    number = STATUS_OF[error.code].value[0]
    return [(b"grpc-status", b"%d" % number), (b"grpc-message", message), *_encoded(error_metadata(error))]


def metadata_of(fields: Fields) -> dict[str, str | bytes]:
    """What headers or trailers tell beside what belongs to HTTP; what is not ASCII is left out."""
    found: dict[str, str | bytes] = {}
    for name, value in fields:
        if name.startswith(b":") or not name.isascii():
            continue
        if name.endswith(b"-bin"):
            try:
                found[name.decode()] = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error:
                continue
        elif value.isascii():
            found[name.decode()] = value.decode()
    return found


def error_of(fields: Fields, peer: str) -> FlexPieError | None:
    """Why a call to `peer` ended, from its trailers; None where it ended in order."""
    metadata = metadata_of(fields)
    number = str(metadata.get("grpc-status", ""))
    status = _STATUS.get(int(number), grpc.StatusCode.UNKNOWN) if number.isdecimal() else grpc.StatusCode.UNKNOWN
    if status is grpc.StatusCode.OK:
        return None
    details = unquote_to_bytes(str(metadata.get("grpc-message", ""))).decode("utf-8", "replace")
    nothing, trailing = grpc.aio.Metadata(), grpc.aio.Metadata(*metadata.items())
    return error_from_rpc(grpc.aio.AioRpcError(status, nothing, trailing, details), peer)


def _encoded(metadata: Metadata) -> Iterable[tuple[bytes, bytes]]:
    for name, value in metadata:
        text = value.encode() if isinstance(value, str) else value
        yield name.encode(), base64.b64encode(text).rstrip(b"=") if name.endswith("-bin") else text
