"""A stream to the door of a worker (`flexpie.worker.door`), of a peer or of the master."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.framing import Frame, decode_frame
from flexpie.wire.grpc_fields import Metadata, error_of, metadata_of, request_fields
from flexpie.wire.http2 import ErrorNumber, Fields
from flexpie.wire.lean_stream import LeanStream
from flexpie.wire.v1 import peer_pb2
from flexpie.wire.waiting import within

DOOR_METHOD = "/flexpie.wire.v1.PeerService/Door"
CLOSE_SECONDS = 0.2
"""How long a connection may take to end in order."""
DOOR_SECONDS = 2.0
"""How long a peer's second port may take to answer before the first one is used."""


class DoorAddress(NamedTuple):
    """Where a worker takes streams."""

    port: int
    """Of TCP; 0 is none."""
    unix_socket: str
    """Name in Linux's abstract namespace, which is the network namespace's own; empty is none."""


NO_DOOR = DoorAddress(0, "")


async def door_of(channel: grpc.aio.Channel) -> DoorAddress:
    """The door of a peer, if it has one. Raises grpc.aio.AioRpcError when it does not answer."""
    ask: Any = channel.unary_unary(
        DOOR_METHOD,
        request_serializer=peer_pb2.DoorRequest.SerializeToString,
        response_deserializer=peer_pb2.DoorReply.FromString,
    )
    try:
        reply: peer_pb2.DoorReply = await ask(peer_pb2.DoorRequest(), wait_for_ready=False)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return NO_DOOR
        raise
    return DoorAddress(reply.port, reply.unix_socket)


def door_handler(find: Callable[[], DoorAddress]) -> Any:
    """The RPC handler of `PeerService.Door`, which tells where `find` says that the door is now."""

    async def door(_: peer_pb2.DoorRequest, context: grpc.aio.ServicerContext[Any, Any]) -> peer_pb2.DoorReply:
        return peer_pb2.DoorReply(**find()._asdict())

    return grpc.unary_unary_rpc_method_handler(
        door,
        request_deserializer=peer_pb2.DoorRequest.FromString,
        response_serializer=peer_pb2.DoorReply.SerializeToString,
    )


class LeanCall:
    """An `Exchange` stream."""

    def __init__(self, peer: str, method: str, metadata: Metadata, on_frame: Callable[[Frame], None]) -> None:
        """`peer` as the user knows it; `on_frame` takes what it sends."""
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[dict[str, str | bytes]] = loop.create_future()
        """Metadata of the peer's answer."""
        self.over: asyncio.Future[FlexPieError | None] = loop.create_future()
        """Why the stream has ended; None where the peer left in order."""
        self._peer = peer
        self._method = method
        self._metadata = metadata
        self._on_frame = on_frame
        self._stream: LeanStream | None = None
        """While it can be used."""
        self._connection: LeanStream | None = None

    async def open(
        self,
        host: str,
        door: DoorAddress,
        max_message_bytes: int,
        max_received_bytes: int | None = None,
        encryption: ssl.SSLContext | None = None,
    ) -> None:
        """Connect; through the Unix socket where the peer is on this machine. Raises OSError or asyncio.TimeoutError
        when the port cannot be reached, or is not the peer's."""
        loop = asyncio.get_running_loop()

        def stream() -> LeanStream:
            return LeanStream(
                self, is_client=True, max_message_bytes=max_message_bytes, max_received_bytes=max_received_bytes
            )

        if door.unix_socket and sys.platform == "linux":
            name = host if encryption is not None else None
            with contextlib.suppress(OSError):  # it is elsewhere
                near = loop.create_unix_connection(
                    stream, f"\0{door.unix_socket}", ssl=encryption, server_hostname=name
                )
                await self._connect(near)
                return
        far = loop.create_connection(stream, host, door.port, ssl=encryption)
        await self._connect(far)

    async def _connect(self, connecting: Awaitable[object]) -> None:
        try:
            await within(DOOR_SECONDS, connecting)
        except asyncio.CancelledError:
            self.abort()  # it may have been made at this very moment
            raise

    async def accepted(self) -> dict[str, str | bytes]:
        """Metadata of the peer's answer. Raises what the stream ended with instead; sets no deadline."""
        either: set[asyncio.Future[Any]] = {self._accepted, self.over}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._accepted.done():
            raise self.over.result() or FlexPieError(ErrorCode.DEVICE_UNREACHABLE, f"{self._peer} closed the link.")
        return self._accepted.result()

    def put(self, message: bytes) -> None:
        """Send a message; raises ``DEVICE_UNREACHABLE``, ``TOO_LARGE`` or ``OVERLOADED``."""
        if self._stream is None:
            raise FlexPieError(ErrorCode.DEVICE_UNREACHABLE, f"{self._peer} cannot be reached.")
        self._stream.put(message)

    def abort(self) -> None:
        """End the stream at once."""
        if self._stream is not None:
            self._stream.abort()
        self._finish(None)

    async def close(self) -> None:
        """End the stream, and wait a moment for its connection to be gone."""
        self.abort()
        if self._connection is not None:
            try:
                await within(CLOSE_SECONDS, self._connection.lost.wait())
            except asyncio.TimeoutError:  # the peer takes nothing any more
                self._connection.drop()

    def connected(self, stream: LeanStream) -> None:
        """See `StreamUser`."""
        self._stream = self._connection = stream
        stream.send_headers(request_fields(self._peer, self._method, self._metadata))

    def headers_came(self, fields: Fields) -> None:
        """See `StreamUser`."""
        self._accepted.set_result(metadata_of(fields))

    def message_came(self, message: memoryview) -> None:
        """See `StreamUser`."""
        try:
            frame = decode_frame(message)
        except FlexPieError as error:
            if self._stream is not None:
                self._stream.abort(ErrorNumber.PROTOCOL_ERROR)
            self._finish(error)
            return
        self._on_frame(frame)

    def ended(self, trailers: Fields | None, reason: str) -> None:
        """See `StreamUser`."""
        if trailers is None:
            broken = FlexPieError(ErrorCode.DEVICE_UNREACHABLE, f"The link to {self._peer} broke: {reason}.")
            self._finish(broken)
        else:
            self._finish(error_of(trailers, self._peer))

    def _finish(self, error: FlexPieError | None) -> None:
        self._stream = None
        if not self.over.done():
            self.over.set_result(error)
