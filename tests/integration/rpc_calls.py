"""Every call of a daemon as a test can make it: begun, held open, and ended in any way at any moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Method = tuple[str, MethodDescriptor]
"""The name of a service on the wire, and a method of it."""


def methods_of(services: Iterable[tuple[str, ServiceDescriptor]]) -> list[Method]:
    """All methods of these services: a new one is tested without being listed anywhere."""
    return [(name, method) for name, service in services for method in service.methods]


@dataclass(frozen=True)
class Script:
    """What is sent in a call."""

    messages: Sequence[Message] = ()
    """One empty message where there are none."""
    held: int = 0
    """How many of them are sent before a call that is held open waits; 0 is all."""
    metadata: Sequence[tuple[str, str]] = ()


class Wire:
    """A forwarder on a port of its own, whose connections can be cut: a client that vanishes."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.address = ""
        self._cut = False

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection without a word, and take no other."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, back]
        for source, target in ((reader, back), (there, writer)):
            self._tasks.append(asyncio.create_task(_pump(source, target)))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.transport.abort()


@dataclass
class Call:
    """A call that was begun."""

    call: Any
    streams_back: bool
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def cancel(self) -> None:
        """The client gives it up."""
        self.call.cancel()

    async def finish(self) -> None:
        """Send what is left and read whatever comes, until the call ends in some way."""
        self.go.set()
        await self.ended()

    async def ended(self) -> None:
        """Wait until the call has ended in some way."""
        with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
            if self.streams_back:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            else:
                await self.call


def begin(channel: grpc.aio.Channel, method: Method, script: Script, *, timeout_seconds: float, hold: bool) -> Call:
    """Begin a call; with `hold` the rest of a stream of requests waits for `Call.finish`."""
    service, descriptor = method
    kind = f"{_arity(descriptor.client_streaming)}_{_arity(descriptor.server_streaming)}"
    serialize: Callable[[Message], bytes] = lambda message: message.SerializeToString()  # noqa: E731
    parse = GetMessageClass(descriptor.output_type).FromString
    make = getattr(channel, kind)(f"/{service}/{descriptor.name}", serialize, parse)
    messages = list(script.messages) or [GetMessageClass(descriptor.input_type)()]
    begun = Call(None, descriptor.server_streaming)
    stop = script.held if hold and script.held else len(messages)
    request: Any = messages[0]
    if descriptor.client_streaming:
        request = _stream(messages, stop, begun.go if hold else None)
    begun.call = make(request, timeout=timeout_seconds, metadata=tuple(script.metadata))
    return begun


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


async def _stream(messages: Sequence[Message], stop: int, go: asyncio.Event | None) -> AsyncIterator[Message]:
    for message in messages[:stop]:
        yield message
    if go is not None:
        await go.wait()
    for message in messages[stop:]:
        yield message
