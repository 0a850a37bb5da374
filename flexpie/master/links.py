"""Links: the master's connection to each worker, kept up for as long as the master runs."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flexpie import __version__
from flexpie.compiler import Blob
from flexpie.core.cluster import Device
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.security.channels import open_async_channel
from flexpie.security.credentials import Credentials
from flexpie.wire import limits
from flexpie.wire.beats import BeatListener
from flexpie.wire.codec import blob_to_proto
from flexpie.wire.framing import Buffer, Frame, decode_frame
from flexpie.wire.outbox import Outbox
from flexpie.wire.status import error_from_rpc
from flexpie.wire.v1 import peer_pb2, program_pb2, trace_pb2, worker_pb2
from flexpie.wire.v1.worker_pb2_grpc import WorkerServiceStub

HANDSHAKE_SECONDS = 5.0
UNDEPLOY_SECONDS = 2.0
OFFER_SECONDS = 60.0
DEPLOY_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
REFUSED_PAUSE_SECONDS = 10.0
"""A refused worker may be upgraded and started again."""

_UNBOUNDED = -1
_EXCHANGE = "/flexpie.wire.v1.PeerService/Exchange"

_Reply = TypeVar("_Reply")
_log = logging.getLogger(__name__)


class Presence(enum.Enum):
    """What a probe finds."""

    SERVING = "serving"
    LEAVING = "leaving"
    """It finishes its requests and takes no new ones."""
    GONE = "gone"


class LinkListener(Protocol):
    """What a link tells, on the event loop."""

    def link_up(self, device: str, hello: worker_pb2.HandshakeReply) -> None:
        """The worker shook hands, and its stream is open."""

    def link_down(self, device: str, error: FlexPieError) -> None:
        """The worker cannot be reached, or refused (VERSION_MISMATCH); the link goes on trying."""

    def frame_arrived(self, device: str, frame: Frame) -> None:
        """The worker sent a result or a failure."""

    def deployments(self) -> Sequence[str]:
        """The deployments that workers are to keep; others of this master are left of an earlier run or connection."""

    def beat_arrived(self, device: str, beat: peer_pb2.BeatReply) -> None:
        """The worker says that it is there, and what it has noticed."""


class WorkerLink:
    """The connection to one worker: handshake, one stream of frames, and calls beside it."""

    def __init__(
        self,
        device: Device,
        master_id: str,
        listener: LinkListener,
        heartbeat: Heartbeat | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """The worker keeps those deployments of the master that the listener's `deployments` names. `heartbeat` says
        when silence is the end of a connection, and of those between workers."""
        self.device = device
        self._heartbeat = heartbeat or Heartbeat()
        self._master_id = master_id
        self._listener = listener
        self._credentials = credentials
        self._session: _Session | None = None

    async def run(self) -> None:
        """Connect, and connect again whenever the connection breaks; ends only by cancellation."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS
        while True:
            began = loop.time()
            error = await self._hold_connection()
            self._listener.link_down(self.device.name, error)
            if loop.time() - began > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            refused = error.code is ErrorCode.VERSION_MISMATCH
            await asyncio.sleep(REFUSED_PAUSE_SECONDS if refused else pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _hold_connection(self) -> FlexPieError:
        """One connection, from its handshake to its end; returns why it ended."""
        # The worker knows what it takes and sends; a message over a limit of ours would end the connection.
        options = [*limits.channel_options(_UNBOUNDED), ("grpc.use_local_subchannel_pool", 1)]
        channel = open_async_channel(self.device.address, options, self._credentials)
        session = _Session(channel, self.device, self._listener, self._heartbeat)
        try:
            hello = await session.shake_hands(self._master_id)
            await session.open_stream(self._master_id, hello.max_message_bytes)
            self._session = session
            self._listener.link_up(self.device.name, hello)
            return await session.ended
        except FlexPieError as error:
            return error
        finally:
            self._session = None
            session.end(_unreachable(self.device, "the connection was closed"))
            await session.close()

    def send(self, message: bytes) -> None:
        """Send a frame; raises ``DEVICE_UNREACHABLE`` when the worker is not connected, ``TOO_LARGE``, and
        ``OVERLOADED`` when the worker does not take what waits for it."""
        session = self._connected()
        try:
            session.outgoing.put(message)
        except FlexPieError as error:
            raise FlexPieError(error.code, f"Device {self.device.name}: {error.message}", error.remedy) from None

    async def probe(self) -> Presence:
        """Ask whether the worker is there; when it does not answer the connection is given up."""
        session = self._session
        if session is None:
            return Presence.GONE
        try:
            request = health_pb2.HealthCheckRequest()
            reply = await session.call(session.health.Check(request, timeout=self._heartbeat.dead_after_seconds))
        except FlexPieError as error:
            session.end(error)
            return Presence.GONE
        serving = reply.status == health_pb2.HealthCheckResponse.SERVING
        return Presence.SERVING if serving else Presence.LEAVING

    async def missing(self, blobs: Sequence[Blob]) -> list[Blob]:
        """Those of the blobs that the worker does not have."""
        session = self._connected()
        offer = worker_pb2.OfferBlobsRequest(blobs=[blob_to_proto(blob.ref) for blob in blobs])
        reply = await session.call(session.stub.OfferBlobs(offer, timeout=OFFER_SECONDS))
        missing = set(reply.missing_sha256)
        return [blob for blob in blobs if blob.ref.sha256 in missing]

    async def push(self, blobs: Sequence[Blob], on_pushed: Callable[[int], None]) -> None:
        """Bring blobs to the worker; calls `on_pushed` with the bytes of each chunk that was sent."""
        session = self._connected()
        upload = _Upload(blobs, on_pushed)
        try:
            await session.call(session.stub.PushBlobs(upload.chunks()))
        except FlexPieError:
            if upload.error is not None:  # ours, not the worker's
                raise upload.error from None
            raise

    async def deploy(self, request: worker_pb2.DeployRequest) -> worker_pb2.DeployReply:
        """Have a program built and warmed."""
        session = self._connected()
        return await session.call(session.stub.Deploy(request, timeout=DEPLOY_SECONDS))

    async def undeploy(self, deployment: str) -> None:
        """End a deployment; a worker that is gone has ended it already."""
        session = self._session
        if session is not None and not session.ended.done():
            request = worker_pb2.UndeployRequest(deployment_id=deployment)
            await session.call(session.stub.Undeploy(request, timeout=UNDEPLOY_SECONDS))

    async def check_peer(self, address: str) -> bool:
        """Whether the worker reaches another one."""
        session = self._connected()
        request = worker_pb2.CheckPeerRequest(address=address)
        timeout = 2 * self._heartbeat.dead_after_seconds
        reply: worker_pb2.CheckPeerReply = await session.call(session.stub.CheckPeer(request, timeout=timeout))
        return reply.reachable

    async def traces(self, deployment: str) -> AsyncGenerator[trace_pb2.RequestTrace, None]:
        """What the worker does for a deployment's requests, until this is closed; the first one is empty, and says
        that it records."""
        session = self._connected()
        call = session.stub.Trace(worker_pb2.TraceRequest(deployment_id=deployment))
        try:
            while isinstance(trace := await session.call(call.read()), trace_pb2.RequestTrace):
                yield trace
        finally:
            call.cancel()

    def _connected(self) -> _Session:
        if self._session is None:
            raise _unreachable(self.device, "it is not connected")
        return self._session


class _Session:
    """One connection of a link."""

    def __init__(self, channel: grpc.aio.Channel, device: Device, listener: LinkListener, heartbeat: Heartbeat) -> None:
        self.stub = WorkerServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.ended: asyncio.Future[FlexPieError] = asyncio.get_running_loop().create_future()
        """Why the connection is of no use any more."""
        self._channel = channel
        self._device = device
        self._listener = listener
        self._heartbeat = heartbeat
        self._beats = BeatListener(heartbeat, partial(listener.beat_arrived, device.name), with_reports=True)
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

    async def open_stream(self, master_id: str, max_message_bytes: int) -> None:
        """Begin to exchange frames, and to watch over the connection, once the worker knows the stream.

        A message over the worker's limit (0: the default) would end the connection, so none is sent.
        """
        metadata = (
            (limits.PROTOCOL_KEY, str(limits.PROTOCOL)),
            (limits.SOURCE_KEY, limits.MASTER_SOURCE),
            (limits.MASTER_KEY, master_id),
        )
        # Without serialisers: frames are bytes on both sides.
        stream: grpc.aio.StreamStreamCall[Any, Any] = self._channel.stream_stream(_EXCHANGE)(metadata=metadata)
        self.outgoing = Outbox(stream.write, max_message_bytes or limits.MAX_MESSAGE_BYTES)
        accepted = asyncio.wait_for(stream.initial_metadata(), HANDSHAKE_SECONDS)
        try:
            await self.call(accepted)
        except asyncio.TimeoutError:
            raise _unreachable(self._device, "it does not accept the stream") from None
        parts = (self._read(stream), self._write(), self._watch())
        self._tasks = [asyncio.ensure_future(self._guarded(part)) for part in parts]

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
            raise self.ended.result() if self.ended.done() else _unreachable(self._device, "a call was cancelled")
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, _described(self._device)) from error
        finally:
            reply.cancel()

    async def _guarded(self, part: Awaitable[None]) -> None:
        try:
            await part
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:  # not by this end, which would have cancelled the task
                self.end(_unreachable(self._device, "it ended the connection"))
            else:
                self.end(error_from_rpc(error, _described(self._device)))
        except FlexPieError as error:
            self.end(error)
        except Exception as error:
            _log.exception("defect while exchanging frames with %s", _described(self._device))
            self.end(FlexPieError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))

    async def _read(self, stream: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        while True:
            message = await stream.read()
            if not isinstance(message, bytes):
                break
            self._beats.heard()
            self._listener.frame_arrived(self._device.name, decode_frame(message))
        if await stream.code() is grpc.StatusCode.OK:
            raise _unreachable(self._device, "it closed the connection")
        raise grpc.aio.AioRpcError(
            await stream.code(),
            await stream.initial_metadata(),
            await stream.trailing_metadata(),
            await stream.details(),
        )

    async def _write(self) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # it has ended; reading tells why
            await self.outgoing.run()

    async def _watch(self) -> None:
        raise _unreachable(self._device, await self._beats.listen(self._channel))


class _Upload:
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


def _described(device: Device) -> str:
    return f"device {device.name} ({device.address})"


def _unreachable(device: Device, why: str) -> FlexPieError:
    return FlexPieError(
        ErrorCode.DEVICE_UNREACHABLE,
        f"{_described(device)} cannot be reached: {why}.",
        "Check that its worker runs, and look at `flexpie status`.",
    )
