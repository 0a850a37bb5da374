"""A worker's stream to the door of a peer (`flexpie.worker.door`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.framing import Failure, decode_frame
from flexpie.wire.grpc_fields import Metadata, error_of, metadata_of, request_fields
from flexpie.wire.http2 import ErrorNumber, Fields
from flexpie.wire.lean_stream import LeanStream
from flexpie.wire.v1 import peer_pb2

DOOR_METHOD = "/flexpie.wire.v1.PeerService/Door"
DOOR_SECONDS = 2.0
"""How long a peer's second port may take to answer before the first one is used."""


async def door_of(channel: grpc.aio.Channel) -> int:
    """The port of a peer's door; 0 for a peer that has none. Raises grpc.aio.AioRpcError when it does not answer."""
    ask: Any = channel.unary_unary(
        DOOR_METHOD,
        request_serializer=peer_pb2.DoorRequest.SerializeToString,
        response_deserializer=peer_pb2.DoorReply.FromString,
    )
    try:
        reply: peer_pb2.DoorReply = await ask(peer_pb2.DoorRequest(), wait_for_ready=False)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return 0
        raise
    return reply.port


class LeanCall:
    """An `Exchange` stream."""

    def __init__(self, peer: str, method: str, metadata: Metadata, on_failure: Callable[[Any, Failure], None]) -> None:
        """`peer` as the user knows it; `on_failure` is told of frames that the peer refuses: the frame, and why."""
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[dict[str, str | bytes]] = loop.create_future()
        """Metadata of the peer's answer; cancelled when the stream ends before."""
        self.over: asyncio.Future[FlexPieError | None] = loop.create_future()
        """Why the stream has ended; None where the peer left in order."""
        self._peer = peer
        self._method = method
        self._metadata = metadata
        self._on_failure = on_failure
        self._stream: LeanStream | None = None

    async def open(self, host: str, port: int, max_message_bytes: int) -> None:
        """Connect; raises OSError or asyncio.TimeoutError when the port cannot be reached."""
        loop = asyncio.get_running_loop()
        made = LeanStream(self, is_client=True, max_message_bytes=max_message_bytes)
        await asyncio.wait_for(loop.create_connection(lambda: made, host, port), DOOR_SECONDS)

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

    def connected(self, stream: LeanStream) -> None:
        """See `StreamUser`."""
        self._stream = stream
        stream.send_headers(request_fields(self._peer, self._method, self._metadata))

    def headers_came(self, fields: Fields) -> None:
        """See `StreamUser`."""
        self.accepted.set_result(metadata_of(fields))

    def message_came(self, message: memoryview) -> None:
        """See `StreamUser`."""
        try:
            frame = decode_frame(message)
        except FlexPieError as error:
            if self._stream is not None:
                self._stream.abort(ErrorNumber.PROTOCOL_ERROR)
            self._finish(error)
            return
        if isinstance(frame.content, Failure):
            self._on_failure(frame, frame.content)

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
        if not self.accepted.done():
            self.accepted.cancel()
