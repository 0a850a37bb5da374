"""A gRPC stream without gRPC's library: one bidirectional call on a TCP connection of its own, on the event loop.

What passes is gRPC as it is specified (its protocol over HTTP/2), and gRPC's own clients and servers are understood.
But where the library has threads, queues and tasks between a message and the loop, here is one callback: a device whose
caches are full of weights spends most of the time of a small message on fetching the code that moves it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, cast

import hpack
import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire import http2
from flexpie.wire.http2 import ErrorNumber, Fields, FrameType, ProtocolError
from flexpie.wire.limits import MAX_MESSAGE_BYTES
from flexpie.wire.outbox import MAX_QUEUED_BYTES, check_message

MAX_HEADER_BYTES = 64 * 1024
"""Of a header block, and of all fields in it."""
_PREFIX = struct.Struct(">BI")
"""Before each message of gRPC: whether it is compressed, and its length."""
_DATA_HEAD = struct.Struct(">HBBBIBI")
"""A frame's header (`flexpie.wire.http2.frame_header`) and the prefix."""
_RENEW_BYTES = 2**30
"""When so much was received, the other end is allowed as much again."""
_SCRATCH_BYTES = http2.FRAME_HEADER_BYTES + http2.DEFAULT_FRAME_BYTES
"""Holds any frame that is not data, and the beginning of a message; the rest of it is received where it stays."""


class StreamUser(Protocol):
    """What a stream tells, on the event loop. Nothing may be raised but FlexPieError, which ends the stream."""

    def connected(self, stream: LeanStream) -> None:
        """The connection is there; a client sends its headers now."""

    def headers_came(self, fields: Fields) -> None:
        """The request's headers at a server, the response's at a client; once."""

    def message_came(self, message: memoryview) -> None:
        """A message; its memory is the receiver's, and aligned to 16 bytes."""

    def ended(self, trailers: Fields | None, reason: str) -> None:
        """The stream has ended, once and for all: in order, with trailers (empty where a client has no more to send),
        or with None and a reason."""


class LeanStream(asyncio.BufferedProtocol):
    """Either end of a stream."""

    def __init__(
        self,
        user: StreamUser,
        *,
        is_client: bool,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_received_bytes: int | None = None,
    ) -> None:
        """`max_message_bytes` bounds what is sent, and without `max_received_bytes` what comes, too."""
        self.lost = asyncio.Event()
        """Set when the connection is gone for good."""
        self._user = user
        self._is_client = is_client
        self._max_message_bytes = max_message_bytes
        self._max_received_bytes = max_message_bytes if max_received_bytes is None else max_received_bytes
        self._transport: asyncio.Transport | None = None
        self._stream = 1 if is_client else 0
        """0 until a client has named it."""
        self._has_ended = False
        # Receiving.
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._scratched = 0
        """Bytes in it that were not read yet."""
        self._awaits_preface = not is_client
        self._data_left = 0
        """Bytes of the present DATA frame that have not come."""
        self._data_ends_stream = False
        self._prefix = bytearray()
        self._message: memoryview | None = None
        """Where the present message goes, once its prefix is there."""
        self._filled = 0
        self._is_direct = False
        """Whether the buffer that was handed out last is the message's."""
        self._block = bytearray()
        self._block_flags: int | None = None
        """Of the header block that is not complete."""
        self._had_headers = False
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_BYTES)
        self._unconfirmed = 0
        """Bytes received since the other end's window was renewed."""
        # Sending.
        self._windows = [http2.DEFAULT_WINDOW, http2.DEFAULT_WINDOW]
        """What the other end takes: of the connection, of the stream."""
        self._initial_window = http2.DEFAULT_WINDOW
        self._frame_bytes = http2.DEFAULT_FRAME_BYTES
        self._waiting: deque[memoryview] = deque()
        """Pieces that the windows have no room for."""
        self._waiting_bytes = 0
        self._closing: bytes | None = None
        """What to say when everything has been sent."""

    @property
    def socket(self) -> Any:
        """Of the connection, to set options; None while there is none."""
        return None if self._transport is None else self._transport.get_extra_info("socket")

    @property
    def peer(self) -> str:
        """The other end's address."""
        address = None if self._transport is None else self._transport.get_extra_info("peername")
        return ":".join(map(str, address[:2])) if isinstance(address, tuple) else "unknown"

    @property
    def peer_certificate(self) -> Any:
        """Of an encrypted connection, as `ssl.SSLSocket.getpeercert` returns it."""
        return None if self._transport is None else self._transport.get_extra_info("peercert")

    # Sending.

    def send_headers(self, fields: Fields) -> None:
        """A client's request or a server's response."""
        self._write(http2.headers(self._stream, fields))

    def put(self, message: bytes) -> None:
        """Send a message; raises ``TOO_LARGE`` for one above the limit, ``OVERLOADED`` when too much waits, and
        ``DEVICE_UNREACHABLE`` when the stream has ended."""
        if self._has_ended or self._transport is None or self._closing is not None:
            raise FlexPieError(ErrorCode.DEVICE_UNREACHABLE, "The stream has ended.")
        waits = self._waiting_bytes + self._transport.get_write_buffer_size()
        check_message(len(message), self._max_message_bytes, waits, MAX_QUEUED_BYTES)
        length, windows = len(message) + _PREFIX.size, self._windows
        if not self._waiting and length <= windows[0] and length <= windows[1] and length <= self._frame_bytes:
            self._use_windows(length)
            head = _DATA_HEAD.pack(length >> 8, length & 0xFF, FrameType.DATA, 0, self._stream, 0, len(message))
            self._transport.writelines((head, message))
        else:
            self._waiting += (memoryview(_PREFIX.pack(0, len(message))), memoryview(message))
            self._waiting_bytes += length
            self._send_waiting()

    def finish(self, trailers: Fields) -> None:
        """End a server's stream in order: trailers follow the last message, and then the connection closes."""
        self._closing = http2.headers(self._stream, trailers, http2.END_STREAM)
        self._send_waiting()

    def abort(self, number: ErrorNumber = ErrorNumber.CANCEL) -> None:
        """End the stream at once; what was not sent is lost. Its user hears nothing more."""
        self._has_ended = True
        if self._transport is not None:
            if self._stream:
                self._write(http2.reset(self._stream, number))
            self._transport.close()

    def drop(self) -> None:
        """Close the connection without a word."""
        self._has_ended = True
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _reply(self, data: bytes) -> None:
        """Answer a frame of the connection; who asks and asks without reading answers must not fill the memory."""
        if self._transport is not None and self._transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            raise ProtocolError("it takes no answers")
        self._write(data)

    def _use_windows(self, length: int) -> None:
        self._windows[0] -= length
        self._windows[1] -= length

    def _send_waiting(self) -> None:
        while self._waiting and (room := min(*self._windows, self._frame_bytes)) > 0:
            piece = self._waiting[0]
            taken, rest = piece[:room], piece[room:]
            self._use_windows(len(taken))
            self._waiting_bytes -= len(taken)
            if rest:
                self._waiting[0] = rest
            else:
                self._waiting.popleft()
            self._write(http2.frame_header(len(taken), FrameType.DATA, 0, self._stream) + taken)
        if self._closing is not None and not self._waiting and self._transport is not None:
            self._has_ended = True
            self._write(self._closing + http2.go_away(self._stream, ErrorNumber.NO_ERROR))
            self._transport.close()
            self._transport = None

    # Receiving.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but for its class
        self._write((http2.PREFACE if self._is_client else b"") + http2.opening())
        self._user.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`: the message itself as soon as it is known where it goes."""
        message = self._message
        self._is_direct = message is not None and self._data_left > 0 and not self._scratched
        if message is not None and self._is_direct:
            return message[self._filled : self._filled + self._data_left]
        return self._scratch[self._scratched :]

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if self._has_ended:
            self._scratched = 0
            return
        try:
            if self._is_direct:
                self._filled += nbytes
                self._took(nbytes)
            else:
                self._scratched += nbytes
                self._read()
        except (ProtocolError, hpack.HPACKError) as error:
            self._fail(ErrorNumber.PROTOCOL_ERROR, f"it does not speak gRPC: {error}")
        except FlexPieError as error:
            self._fail(ErrorNumber.INTERNAL_ERROR, error.message)

    def eof_received(self) -> None:
        """See `asyncio.BaseProtocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = None
        self.lost.set()
        self._end(None, f"the connection broke: {exc}" if exc else "the connection was closed")

    def _read(self) -> None:
        """Take everything from the scratch buffer that is complete."""
        at = 0
        while not self._has_ended and (taken := self._read_one(at)):
            at += taken
        left = self._scratched - at
        if at and left:
            self._scratch[:left] = bytes(self._scratch[at : at + left])
        self._scratched = left

    def _read_one(self, at: int) -> int:
        """Take what begins at `at`; returns its bytes, 0 where it is not complete."""
        have = self._scratched - at
        if not have:
            return 0
        if self._data_left:
            return self._read_data(at, have)
        if self._awaits_preface:
            return self._read_preface(at, have)
        if have < http2.FRAME_HEADER_BYTES:
            return 0
        header = http2.read_frame_header(self._scratch, at)
        if header.kind == FrameType.DATA:
            self._begin_data(header)
            have -= http2.FRAME_HEADER_BYTES
            return http2.FRAME_HEADER_BYTES + (self._read_data(at + http2.FRAME_HEADER_BYTES, have) if have else 0)
        if header.length > http2.DEFAULT_FRAME_BYTES:
            raise ProtocolError(f"a frame of {header.length} bytes")
        size = http2.FRAME_HEADER_BYTES + header.length
        if have < size:
            return 0
        self._take_frame(header, bytes(self._scratch[at + http2.FRAME_HEADER_BYTES : at + size]))
        return size

    def _read_preface(self, at: int, have: int) -> int:
        size = min(have, len(http2.PREFACE))
        if self._scratch[at : at + size] != http2.PREFACE[:size]:
            raise ProtocolError("it begins with something else")
        if size < len(http2.PREFACE):
            return 0
        self._awaits_preface = False
        return size

    def _begin_data(self, header: http2.FrameHeader) -> None:
        if not self._had_headers or header.stream != self._stream or header.flags & http2.PADDED:
            raise ProtocolError("data where none belongs")
        self._data_left = header.length
        self._data_ends_stream = bool(header.flags & http2.END_STREAM)
        if not header.length and self._data_ends_stream:
            self._end([], "")

    def _read_data(self, at: int, have: int) -> int:
        """Take what there is of a message's prefix, or of the message."""
        have = min(have, self._data_left)
        if self._message is None:
            taken = min(have, _PREFIX.size - len(self._prefix))
            self._prefix += self._scratch[at : at + taken]
            if len(self._prefix) == _PREFIX.size:
                self._begin_message()
        else:
            taken = 0
        if self._message is not None and (more := min(have - taken, len(self._message) - self._filled)):
            self._message[self._filled : self._filled + more] = self._scratch[at + taken : at + taken + more]
            self._filled += more
            taken += more
        self._took(taken)
        return taken

    def _begin_message(self) -> None:
        compressed, length = _PREFIX.unpack(self._prefix)
        self._prefix.clear()
        if compressed:
            raise ProtocolError("a compressed message")
        if length > self._max_received_bytes:
            raise ProtocolError(f"a message of {length} bytes; the limit is {self._max_received_bytes}")
        self._message, self._filled = np.empty(length, np.uint8).data, 0

    def _took(self, nbytes: int) -> None:
        """So many bytes of the present frame were put where they belong."""
        self._data_left -= nbytes
        self._unconfirmed += nbytes
        if self._unconfirmed >= _RENEW_BYTES:
            self._confirm()
        message = self._message
        if message is not None and self._filled == len(message):
            self._message = None
            self._user.message_came(message)
        if not self._data_left and self._data_ends_stream:
            self._end([], "")

    def _confirm(self) -> None:
        """Allow the other end as much again as has come."""
        self._write(b"".join(http2.window_update(stream, self._unconfirmed) for stream in (0, self._stream)))
        self._unconfirmed = 0

    def _take_frame(self, header: http2.FrameHeader, payload: bytes) -> None:
        if self._block_flags is not None and header.kind != FrameType.CONTINUATION:
            raise ProtocolError("a header block that is not complete")
        match header.kind:
            case FrameType.HEADERS | FrameType.CONTINUATION:
                self._take_block(header, payload)
            case FrameType.SETTINGS if not header.flags & http2.ACK:
                self._take_settings(payload)
            case FrameType.PING if not header.flags & http2.ACK:
                self._reply(http2.frame(FrameType.PING, http2.ACK, 0, payload))
            case FrameType.WINDOW_UPDATE:
                self._take_window(header.stream, payload)
            case FrameType.RST_STREAM if header.stream == self._stream:
                self._fail(None, f"it ended the stream (error {int.from_bytes(payload[:4], 'big')})")
            case FrameType.GOAWAY if int.from_bytes(payload[4:8], "big") != ErrorNumber.NO_ERROR:
                self._fail(None, f"it ended the connection: {payload[8:200].decode('utf-8', 'replace')}".rstrip(": "))
            case FrameType.PUSH_PROMISE:
                raise ProtocolError("a promise that nobody asked for")
            case _:
                pass  # acknowledgements, priorities, extensions

    def _take_block(self, header: http2.FrameHeader, payload: bytes) -> None:
        if header.kind == FrameType.HEADERS:
            if header.flags & http2.PADDED:
                raise ProtocolError("padded headers")
            payload = payload[5:] if header.flags & http2.PRIORITY else payload
            if not self._stream and header.stream % 2:
                self._stream = header.stream
                self._windows[1] = self._initial_window
            if header.stream != self._stream:
                raise ProtocolError("a second stream")
            self._block_flags = header.flags
        if self._block_flags is None:
            raise ProtocolError("a header block without a beginning")
        self._block += payload
        if len(self._block) > MAX_HEADER_BYTES:
            raise ProtocolError("headers that are too long")
        if header.flags & http2.END_HEADERS:
            flags, self._block_flags = self._block_flags, None
            fields: Fields = [
                (bytes(name), bytes(value)) for name, value in self._decoder.decode(bytes(self._block), raw=True)
            ]
            self._block.clear()
            self._take_fields(fields, ends=bool(flags & http2.END_STREAM))

    def _take_fields(self, fields: Fields, *, ends: bool) -> None:
        if not self._had_headers:
            self._had_headers = True
            if self._is_client and ends:  # an answer that is an error and nothing else
                self._end(fields, "")
                return
            self._user.headers_came(fields)
            if ends:
                self._end([], "")
        elif ends:
            self._end(fields, "")
        else:
            raise ProtocolError("headers in the middle")

    def _take_settings(self, payload: bytes) -> None:
        for setting, value in http2.read_settings(payload):
            if setting == http2.INITIAL_WINDOW_SIZE:
                if value > http2.LARGEST_WINDOW:
                    raise ProtocolError("a window that is too large")
                self._windows[1] += value - self._initial_window
                self._initial_window = value
            elif setting == http2.MAX_FRAME_SIZE:
                if not http2.DEFAULT_FRAME_BYTES <= value <= http2.LARGEST_FRAME_BYTES:
                    raise ProtocolError("a frame size that is out of bounds")
                self._frame_bytes = value
        self._reply(http2.frame(FrameType.SETTINGS, http2.ACK, 0))
        self._send_waiting()

    def _take_window(self, stream: int, payload: bytes) -> None:
        increment = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if len(payload) != 4 or not increment:
            raise ProtocolError("a window that does not grow")
        if stream in (0, self._stream):
            self._windows[1 if stream else 0] += increment
            if max(self._windows) > http2.LARGEST_WINDOW:
                raise ProtocolError("a window that is too large")
            self._send_waiting()

    # Ending.

    def _fail(self, number: ErrorNumber | None, reason: str) -> None:
        """End the connection for what the other end did; `number` tells it why."""
        if self._transport is not None:
            if number is not None:
                self._write(http2.go_away(self._stream, number, reason))
            self._transport.close()
        self._end(None, reason)

    def _end(self, trailers: Fields | None, reason: str) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._user.ended(trailers, reason)


def field_of(fields: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The value of a field; empty where there is none."""
    return next((value for found, value in fields if found == name), b"")
