"""Ends of a lean stream without a network: what one writes is there for the other, cut as a test likes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from flexpie.wire.http2 import Fields
from flexpie.wire.lean_stream import LeanStream


class Wires:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False
        self.buffered = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.written += piece

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str) -> None:
        return None

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self.written = bytes(self.written), bytearray()
        return taken


class User:
    """Notes what a stream tells; takes every call where it is a server."""

    def __init__(self, answer: Fields | None = None) -> None:
        self.answer = answer
        self.stream: LeanStream | None = None
        self.headers: Fields | None = None
        self.messages: list[bytes] = []
        self.ends: list[tuple[Fields | None, str]] = []

    def connected(self, stream: LeanStream) -> None:
        self.stream = stream

    def headers_came(self, fields: Fields) -> None:
        self.headers = fields
        if self.answer is not None and self.stream is not None:
            self.stream.send_headers(self.answer)

    def message_came(self, message: memoryview) -> None:
        self.messages.append(bytes(message))

    def ended(self, trailers: Fields | None, reason: str) -> None:
        self.ends.append((trailers, reason))


class End:
    """A stream with its user and its wires."""

    def __init__(self, *, is_client: bool, answer: Fields | None = None, max_message_bytes: int = 2**20) -> None:
        self.user = User(answer)
        self.wires = Wires()
        self.stream = LeanStream(self.user, is_client=is_client, max_message_bytes=max_message_bytes)
        self.stream.connection_made(cast("Any", self.wires))

    def receive(self, data: bytes, pieces: Iterable[int] = ()) -> None:
        """Take bytes in as a transport hands them over: in pieces of these lengths, and then the rest."""
        sizes, rest = iter(pieces), memoryview(data)
        while rest and not self.wires.is_closed:
            buffer = self.stream.get_buffer(-1)
            size = min(len(buffer), next(sizes, len(rest)) or 1, len(rest))
            buffer[:size] = rest[:size]
            self.stream.buffer_updated(size)
            rest = rest[size:]
