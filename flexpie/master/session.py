"""One connection of a `flexpie.master.links.WorkerLink`: handshake, a stream of frames, and calls beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from flexpie import __version__
from flexpie.core.address import host_of
from flexpie.core.cluster import Device
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.security.credentials import Credentials
from flexpie.wire import limits
from flexpie.wire.beats import BeatListener
from flexpie.wire.codec import blob_to_proto
from flexpie.wire.framing import Buffer, Frame, decode_frame
from flexpie.wire.grpc_fields import Metadata
from flexpie.wire.lean_call import LeanCall, door_of
from flexpie.wire.outbox import Outbox, Writing
from flexpie.wire.status import error_from_rpc
from flexpie.wire.v1 import peer_pb2, program_pb2, worker_pb2
from flexpie.wire.v1.worker_pb2_grpc import WorkerServiceStub
from flexpie.wire.waiting import within

if TYPE_CHECKING:
    from flexpie.compiler import Blob

HANDSHAKE_SECONDS = 5.0

_UNLIMITED_BYTES = 2**32

_Reply = TypeVar("_Reply")
_log = logging.getLogger(__name__)


class SessionListener(Protocol):
    """What a session tells and asks, on the event loop."""

    def frame_arrived(self, device: str, frame: Frame) -> None:
        """The worker sent a result or a failure."""

    def deployments(self) -> Sequence[str]:
        """The deployments that workers are to keep; others of this master are left of an earlier run or connection."""

    def beat_arrived(self, device: str, beat: peer_pb2.BeatReply) -> None:
        """The worker says that it is there, and what it has noticed."""


class Session:
    """One connection of a link."""

    def __init__(
        self, channel: grpc.aio.Channel, device: Device, listener: SessionListener, heartbeat: Heartbeat
    ) -> None:
        self.stub = WorkerServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.ended: asyncio.Future[FlexPieError] = asyncio.get_running_loop().create_future()
        """Why the connection is of no use any more."""
        self._channel = channel
        self._device = device
        self._listener = listener
        self._heartbeat = heartbeat
        self._beats = BeatListener(heartbeat, partial(listener.beat_arrived, device.name), with_reports=True)
        self.outgoing: Writing
        """Takes messages for the worker, once there is a stream."""
        self._tasks: list[asyncio.Task[None]] = []

    async def shake_hands(self, master_id: str) -> worker_pb2.HandshakeReply:
        request = worker_pb2.HandshakeRequest(
            version=__version__,
            protocol=limits.PROTOCOL,
            master_id=master_id,
            deployment_ids=self._listener.deployments(),
            dead_after_milliseconds=max(1, round(self._heartbeat.dead_after_seconds * 1000)),
        )
        hello: worker_pb2.HandshakeReply = await self.call(self.stub.Handshake(request, timeout=HANDSHAKE_SECONDS))
        if hello.protocol != limits.PROTOCOL:
            raise FlexPieError(
                ErrorCode.VERSION_MISMATCH,
                f"Device {self._device.name} runs FlexPie {hello.version} with protocol {hello.protocol}; the master "
                f"runs {__version__} with protocol {limits.PROTOCOL}.",
                "Install the same version on both.",
            )
        return hello

    async def open_stream(self, master_id: str, max_message_bytes: int, credentials: Credentials | None = None) -> None:
        """Begin to exchange frames, and to watch over the connection, once the worker knows the stream.

        A message over the worker's limit (0: the default) would end the connection, so none is sent. Where the stream
        goes through the worker's door (`flexpie.worker.door`), messages cost it less of its processor.
        """
        limit = max_message_bytes or limits.MAX_MESSAGE_BYTES
        metadata = (
            (limits.PROTOCOL_KEY, str(limits.PROTOCOL)),
            (limits.SOURCE_KEY, limits.MASTER_SOURCE),
            (limits.MASTER_KEY, master_id),
        )
        if (call := await self._through_door(metadata, limit, credentials)) is not None:
            self.outgoing = call
            self._begin(self._follow(call), self._watch())
            return
        # Without serialisers: frames are bytes on both sides.
        stream: grpc.aio.StreamStreamCall[Any, Any] = self._channel.stream_stream(limits.EXCHANGE_METHOD)(
            metadata=metadata
        )
        self.outgoing = outbox = Outbox(stream.write, limit)
        accepted = within(HANDSHAKE_SECONDS, stream.initial_metadata())
        try:
            await self.call(accepted)
        except asyncio.TimeoutError:
            raise unreachable(self._device, "it does not accept the stream") from None
        self._begin(self._read(stream), self._write(outbox), self._watch())

    async def _through_door(self, metadata: Metadata, limit: int, credentials: Credentials | None) -> LeanCall | None:
        """A stream through the worker's door; None where it has none, or where that cannot be reached."""
        call = LeanCall(described(self._device), limits.EXCHANGE_METHOD, metadata, self._take)
        try:
            door = await self.call(within(HANDSHAKE_SECONDS, door_of(self._channel)))
            if not door.port:
                return None
            encryption = None if credentials is None else credentials.client_context
            await call.open(host_of(self._device.address), door, limit, _UNLIMITED_BYTES, encryption)
        except (OSError, asyncio.TimeoutError) as error:
            _log.info("door not reached device=%s: %s", self._device.name, error)
            return None
        try:
            await self.call(within(HANDSHAKE_SECONDS, call.accepted()))
        except asyncio.TimeoutError:
            await call.close()
            raise unreachable(self._device, "it does not accept the stream") from None
        return call

    def _begin(self, *parts: Coroutine[Any, Any, None]) -> None:
        self._tasks = [asyncio.ensure_future(self._guarded(part)) for part in parts]

    async def _follow(self, call: LeanCall) -> None:
        """Wait for the end of a stream, and end it with the session."""
        try:
            raise await call.over or unreachable(self._device, "it closed the connection")
        finally:
            await call.close()

    def _take(self, frame: Frame) -> None:
        self._beats.heard()
        self._listener.frame_arrived(self._device.name, frame)

    def end(self, error: FlexPieError) -> None:
        """Give the connection up. The first reason counts."""
        if not self.ended.done():
            self.ended.set_result(error)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def call(self, call: Awaitable[_Reply]) -> _Reply:
        """Await a call; raises the error that it fails with, or the one that ends the connection."""
        reply = asyncio.ensure_future(_awaited(call))
        try:
            first: set[asyncio.Future[Any]] = {reply, self.ended}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if reply.done() and not reply.cancelled():
                return reply.result()
            raise self.ended.result() if self.ended.done() else unreachable(self._device, "a call was cancelled")
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:  # by a worker that ends
                raise unreachable(self._device, "it ended the connection") from error
            raise error_from_rpc(error, described(self._device)) from error
        finally:
            reply.cancel()

    async def _guarded(self, part: Awaitable[None]) -> None:
        try:
            await part
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:  # not by this end, which would have cancelled the task
                self.end(unreachable(self._device, "it ended the connection"))
            else:
                self.end(error_from_rpc(error, described(self._device)))
        except FlexPieError as error:
            self.end(error)
        except Exception as error:
            _log.exception("defect while exchanging frames with %s", described(self._device))
            self.end(FlexPieError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))

    async def _read(self, stream: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        while True:
            message = await stream.read()
            if not isinstance(message, bytes):
                break
            self._take(decode_frame(message))
        if await stream.code() is grpc.StatusCode.OK:
            raise unreachable(self._device, "it closed the connection")
        raise grpc.aio.AioRpcError(
            await stream.code(),
            await stream.initial_metadata(),
            await stream.trailing_metadata(),
            await stream.details(),
        )

    async def _write(self, outbox: Outbox) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # it has ended; reading tells why
            await outbox.run()

    async def _watch(self) -> None:
        raise unreachable(self._device, await self._beats.listen(self._channel))


class Upload:
    """The chunks of blobs, cut off the event loop while they are sent."""

    def __init__(self, blobs: Iterable[Blob], on_pushed: Callable[[int], None]) -> None:
        self.error: BaseException | None = None
        """What went wrong here; gRPC itself would only say that the call was cancelled."""
        self._blobs = blobs
        self._on_pushed = on_pushed

    async def chunks(self) -> AsyncIterator[worker_pb2.BlobChunk]:
        try:
            for blob in self._blobs:
                pieces = await asyncio.to_thread(blob.chunks, limits.CHUNK_BYTES)
                piece: Buffer | None = await asyncio.to_thread(next, pieces, b"")  # an empty blob is a chunk too
                header: program_pb2.BlobRef | None = blob_to_proto(blob.ref)
                while piece is not None:
                    yield worker_pb2.BlobChunk(blob=header, data=bytes(piece))
                    self._on_pushed(len(piece))
                    header, piece = None, await asyncio.to_thread(next, pieces, None)
        except Exception as error:
            self.error = error
            raise


async def _awaited(call: Awaitable[_Reply]) -> _Reply:
    return await call


def described(device: Device) -> str:
    return f"device {device.name} ({device.address})"


def unreachable(device: Device, why: str) -> FlexPieError:
    return FlexPieError(
        ErrorCode.DEVICE_UNREACHABLE,
        f"{described(device)} cannot be reached: {why}.",
        "Check that its worker runs, and look at `flexpie status`.",
    )
