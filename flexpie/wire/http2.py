"""The part of HTTP/2 (RFC 9113) that one gRPC stream on a connection of its own needs: frames, settings, headers.

Pure: bytes in, values out. Header blocks are written without compression and without an index, so that the encoder has
no state; those that come are read by the hpack package.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first."""
FRAME_HEADER_BYTES = 9
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
DEFAULT_FRAME_BYTES = 16_384
LARGEST_FRAME_BYTES = 2**24 - 1

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20

INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
_HEADER_TABLE_SIZE = 0x1
_ENABLE_PUSH = 0x2

_FRAME = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")

Fields = list[tuple[bytes, bytes]]
"""Names, lower-case, and values."""


class FrameType(enum.IntEnum):
    """Of the frames that mean something here; others are to be ignored."""

    DATA = 0x0
    HEADERS = 0x1
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class ErrorNumber(enum.IntEnum):
    """Why a stream or connection is ended."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8


class ProtocolError(Exception):
    """The other end does not keep to HTTP/2, or to what gRPC makes of it."""


class FrameHeader(NamedTuple):
    """The nine bytes before a frame's payload."""

    length: int
    kind: int
    flags: int
    stream: int


def read_frame_header(buffer: bytes | bytearray | memoryview, at: int = 0) -> FrameHeader:
    """The header that begins at `at`; all of it must be there."""
    high, low, kind, flags, stream = _FRAME.unpack_from(buffer, at)
    return FrameHeader(high << 8 | low, kind, flags, stream & 0x7FFF_FFFF)


def frame_header(length: int, kind: FrameType, flags: int, stream: int) -> bytes:
    """The header of a frame whose payload has `length` bytes."""
    return _FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: FrameType, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return frame_header(len(payload), kind, flags, stream) + payload


def opening() -> bytes:
    """What either end sends first (a client after the preface): settings and window that take whatever comes, since a
    stream's receiver has bounds of its own (`flexpie.worker.deployment.Limits`)."""
    settings = (
        (_HEADER_TABLE_SIZE, 0),
        (_ENABLE_PUSH, 0),
        (INITIAL_WINDOW_SIZE, LARGEST_WINDOW),
        (MAX_FRAME_SIZE, LARGEST_FRAME_BYTES),
    )
    payload = b"".join(_SETTING.pack(*setting) for setting in settings)
    return frame(FrameType.SETTINGS, 0, 0, payload) + window_update(0, LARGEST_WINDOW - DEFAULT_WINDOW)


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The settings in a frame's payload; raises ProtocolError for what is none."""
    if len(payload) % _SETTING.size:
        raise ProtocolError("settings of a wrong length")
    return _SETTING.iter_unpack(payload)


def window_update(stream: int, increment: int) -> bytes:
    """Allows the other end to send so many bytes more; stream 0 is the connection."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, number: ErrorNumber) -> bytes:
    """Ends a stream abruptly."""
    return frame(FrameType.RST_STREAM, 0, stream, number.to_bytes(4, "big"))


def go_away(last_stream: int, number: ErrorNumber, text: str = "") -> bytes:
    """Ends the connection."""
    payload = last_stream.to_bytes(4, "big") + number.to_bytes(4, "big") + text.encode()
    return frame(FrameType.GOAWAY, 0, 0, payload)


def header_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields as literals without indexing (RFC 7541, section 6.2.2)."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def headers(stream: int, fields: Iterable[tuple[bytes, bytes]], flags: int = 0) -> bytes:
    """The frame of a header block, and where it is long, those that continue it."""
    block = header_block(fields)
    pieces = [block[at : at + DEFAULT_FRAME_BYTES] for at in range(0, len(block), DEFAULT_FRAME_BYTES)] or [b""]
    kinds = [FrameType.HEADERS] + [FrameType.CONTINUATION] * (len(pieces) - 1)
    ends = [0] * (len(pieces) - 1) + [END_HEADERS]
    return b"".join(
        frame(kind, end | (flags if kind is FrameType.HEADERS else 0), stream, piece)
        for kind, end, piece in zip(kinds, ends, pieces, strict=True)
    )


def _text(text: bytes) -> bytes:
    """A string with its length, an integer with a prefix of seven bits (RFC 7541, section 5.1)."""
    length = len(text)
    if length < 0x7F:
        return bytes((length,)) + text
    encoded, length = bytearray((0x7F,)), length - 0x7F
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + text
