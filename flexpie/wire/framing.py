"""Frames of the data plane, written and read by hand so that tensors are copied once on their way out and never on
their way in. The bytes are exactly the protobuf encoding of ``Frame`` in peer.proto.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.v1 import peer_pb2

Buffer = bytes | bytearray | memoryview

ALIGNMENT = 16
"""The payload begins at a multiple of this in the message; Python's bytes objects are aligned like this."""
MAX_HEADER_BYTES = 64 * 1024
NO_BYTES = memoryview(b"")

_HEADER_TAG = 0x0A  # field 1, length-delimited
_PAYLOAD_TAG = 0x12  # field 2, length-delimited
_PADDING_TAG = 0x42  # field 8 of the header, length-delimited
_REQUEST = struct.Struct("<BQBI")
"""The request's number and timeout, each behind its tag, with which a header begins."""
_REQUEST_TAG = 0x09  # field 1 of the header, 64 bits
_TIMEOUT_TAG = 0x15  # field 2 of the header, 32 bits
_LONGEST_KNOWN = 512
"""Bytes of a header that is worth remembering."""


@dataclass(frozen=True, slots=True)
class Data:
    """One message of an exchange."""

    exchange: int
    source: int
    """Index of the sending device, or `flexpie.core.program.MASTER`."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop working on the request and forget it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The sender cannot finish the request."""

    code: ErrorCode
    message: str
    remedy: str = ""
    retry_seconds: float | None = None
    """See `FlexPieError`; it does not travel in frames."""

    @classmethod
    def of(cls, error: FlexPieError) -> Failure:
        """The failure that reports an error."""
        return cls(error.code, error.message, error.remedy, error.retry_seconds)

    @property
    def error(self) -> FlexPieError:
        """The error that the failure reports."""
        return FlexPieError(self.code, self.message, self.remedy, retry_seconds=self.retry_seconds)


Content = Data | Cancel | Failure


class Frame(NamedTuple):
    """One message of the data plane."""

    deployment_id: str
    request_id: int
    timeout_milliseconds: int
    """Time left until the request's deadline when the frame was written; 0 is no deadline."""
    content: Content
    payload: memoryview = NO_BYTES
    """The parts' bytes, one after another."""


def run_number(number: int, *, sampled: bool) -> int:
    """The number by which workers know a run of a request: an odd one asks them to tell what it takes."""
    return number * 2 + sampled


def is_sampled(request_id: int) -> bool:
    """Whether the master wants to know what a run takes."""
    return request_id % 2 == 1


def encode_frame(
    deployment_id: str,
    request_id: int,
    timeout_milliseconds: int,
    content: Content,
    parts: Sequence[Buffer] = (),
) -> bytes:
    """The message for a stream; `parts` are contiguous buffers of bytes, copied once into it."""
    payload_bytes = sum(map(len, parts))
    if isinstance(content, Data):
        before, behind = _data_frame(deployment_id, content.exchange, content.source, payload_bytes)
    else:
        before, behind = _around_request(deployment_id, payload_bytes, _content_field(content))
    request = _REQUEST.pack(_REQUEST_TAG, request_id, _TIMEOUT_TAG, timeout_milliseconds)
    return b"".join((before, request, behind, *parts))


def decode_frame(message: Buffer) -> Frame:
    """The frame in a message; its payload is a view into it.

    Raises ``CORRUPT_PACKAGE`` for anything that is not a complete frame.
    """
    frame = _decode_known(message)
    if frame is not None:
        return frame
    try:
        if not message or message[0] != _HEADER_TAG:
            raise ValueError("no header")
        length, start = _read_varint(message, 1)
        stop = start + length
        if length > MAX_HEADER_BYTES or stop > len(message):
            raise ValueError("header of a wrong size")
        header = peer_pb2.FrameHeader.FromString(bytes(message[start:stop]))
        payload = memoryview(message)[len(message) :]
        if stop < len(message):
            if message[stop] != _PAYLOAD_TAG:
                raise ValueError("no payload behind the header")
            length, start = _read_varint(message, stop + 1)
            payload = memoryview(message)[start:]
            if len(payload) != length:
                raise ValueError(f"payload has {len(payload)} bytes instead of {length}")
        if len(payload) != header.payload_bytes:
            raise ValueError(f"payload has {len(payload)} bytes, the header says {header.payload_bytes}")
        content = _content(header)
    except (ValueError, DecodeError) as error:
        raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"A message is not a frame: {error}.") from error
    return Frame(header.deployment_id, header.request_id, header.timeout_milliseconds, content, payload)


def unpack(payload: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    """Cut a payload into consecutive views of these lengths in bytes, which must add up to it."""
    if sum(lengths) != len(payload):
        raise FlexPieError(
            ErrorCode.CORRUPT_PACKAGE, f"A payload has {len(payload)} bytes where {sum(lengths)} were expected."
        )
    views, start = [], 0
    for length in lengths:
        views.append(payload[start : start + length])
        start += length
    return views


def _content(header: peer_pb2.FrameHeader) -> Content:
    kind = header.WhichOneof("kind")
    if kind == "data":
        return Data(header.data.exchange, header.data.source)
    if kind == "cancel":
        return Cancel(header.cancel.reason)
    if kind == "failure":
        failure = header.failure
        known = failure.code in ErrorCode.__members__
        return Failure(ErrorCode[failure.code] if known else ErrorCode.INTERNAL, failure.message, failure.remedy)
    raise ValueError("neither data, cancellation nor failure")


@functools.lru_cache(maxsize=4096)
def _data_frame(deployment_id: str, exchange: int, source: int, payload_bytes: int) -> tuple[bytes, bytes]:
    """See `_around_request`; the same for every request."""
    return _around_request(deployment_id, payload_bytes, _content_field(Data(exchange, source)))


def _around_request(deployment_id: str, payload_bytes: int, content: bytes) -> tuple[bytes, bytes]:
    """What is before and behind the request's number and timeout, up to the payload."""
    header = peer_pb2.FrameHeader(deployment_id=deployment_id, payload_bytes=payload_bytes)
    encoded = header.SerializeToString() + content
    length = b"\x12" + _varint(payload_bytes) if payload_bytes else b""
    if payload_bytes:
        encoded += _padding(_REQUEST.size + len(encoded), len(length))
    return b"\x0a" + _varint(_REQUEST.size + len(encoded)), encoded + length


def _decode_known(message: Buffer) -> Frame | None:
    """The frame in a message of data, where nothing about it is unusual."""
    if len(message) < 3 + _REQUEST.size or message[0] != _HEADER_TAG:
        return None
    start, length = 2, message[1]
    if length >= 0x80:
        start, length = (
            3,
            length & 0x7F | message[2] << 7,
        )  # a second byte with its highest bit set leads beyond the end
    stop = start + length
    if not _REQUEST.size <= length <= _REQUEST.size + _LONGEST_KNOWN or stop > len(message):
        return None
    first_tag, request_id, second_tag, timeout = _REQUEST.unpack_from(message, start)
    if first_tag != _REQUEST_TAG or second_tag != _TIMEOUT_TAG:
        return None
    known = _known_data(bytes(message[start + _REQUEST.size : stop]))
    if known is None:
        return None
    deployment_id, content, payload_bytes, tail = known
    begin = stop + len(tail)
    if len(message) != begin + payload_bytes or message[stop:begin] != tail:
        return None
    return Frame(deployment_id, request_id, timeout, content, memoryview(message)[begin:])


@functools.lru_cache(maxsize=4096)
def _known_data(header: bytes) -> tuple[str, Data, int, bytes] | None:
    """Of a header of data behind what differs between requests: deployment, content, the payload's bytes, and what
    stands between header and payload. None for any other header."""
    try:
        parsed = peer_pb2.FrameHeader.FromString(header)
    except DecodeError:
        return None
    if not parsed.HasField("data") or parsed.HasField("request_id") or parsed.HasField("timeout_milliseconds"):
        return None
    tail = b"\x12" + _varint(parsed.payload_bytes) if parsed.payload_bytes else b""
    return parsed.deployment_id, Data(parsed.data.exchange, parsed.data.source), parsed.payload_bytes, tail


def _content_field(content: Content) -> bytes:
    """The field of the header that says what the frame is."""
    header = peer_pb2.FrameHeader()
    if isinstance(content, Data):
        header.data.exchange, header.data.source = content.exchange, content.source
        header.data.SetInParent()
    elif isinstance(content, Cancel):
        header.cancel.reason = content.reason
        header.cancel.SetInParent()
    else:
        header.failure.code = content.code.value
        header.failure.message = content.message
        header.failure.remedy = content.remedy
    return header.SerializeToString()


def _padding(header_bytes: int, behind: int) -> bytes:
    """The padding field that aligns the payload, given the bytes of the header without it and those between header
    and payload."""
    for length_bytes in range(1, 6):
        smallest = -(1 + length_bytes + header_bytes + behind) % ALIGNMENT
        for size in (smallest, smallest + ALIGNMENT):
            # Tag and length take two, and protobuf writes no empty field.
            if size not in (1, 2) and len(_varint(header_bytes + size)) == length_bytes:
                return bytes((_PADDING_TAG, size - 2)) + bytes(size - 2) if size else b""
    raise AssertionError("some padding always fits")


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(message: Buffer, start: int) -> tuple[int, int]:
    """The number that begins at `start`, and where it ends."""
    number = shift = 0
    for position in range(start, min(start + 10, len(message))):
        byte = message[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position + 1
        shift += 7
    raise ValueError("a length is cut off")
