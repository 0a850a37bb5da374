"""Links: the master's connection to each worker, kept up for as long as the master runs."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from grpc_health.v1 import health_pb2

from flexpie.core.cluster import Device
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.master.session import Session, SessionListener, Upload, unreachable
from flexpie.security.channels import open_async_channel
from flexpie.security.credentials import Credentials
from flexpie.wire import limits
from flexpie.wire.codec import blob_to_proto
from flexpie.wire.v1 import trace_pb2, worker_pb2

if TYPE_CHECKING:
    from flexpie.compiler import Blob

UNDEPLOY_SECONDS = 2.0
OFFER_SECONDS = 60.0
DEPLOY_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
REFUSED_PAUSE_SECONDS = 10.0
"""A refused worker may be upgraded and started again."""

_UNBOUNDED = -1

_log = logging.getLogger(__name__)


class Presence(enum.Enum):
    """What a probe finds."""

    SERVING = "serving"
    LEAVING = "leaving"
    """It finishes its requests and takes no new ones."""
    GONE = "gone"


class LinkListener(SessionListener, Protocol):
    """What a link tells, on the event loop."""

    def link_up(self, device: str, hello: worker_pb2.HandshakeReply) -> None:
        """The worker shook hands, and its stream is open."""

    def link_down(self, device: str, error: FlexPieError) -> None:
        """The worker cannot be reached, or refused (VERSION_MISMATCH); the link goes on trying."""


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
        self._session: Session | None = None

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
        session = Session(channel, self.device, self._listener, self._heartbeat)
        try:
            hello = await session.shake_hands(self._master_id)
            await session.open_stream(self._master_id, hello.max_message_bytes, self._credentials)
            self._session = session
            self._listener.link_up(self.device.name, hello)
            return await session.ended
        except FlexPieError as error:
            return error
        finally:
            self._session = None
            session.end(unreachable(self.device, "the connection was closed"))
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
        upload = Upload(blobs, on_pushed)
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

    def _connected(self) -> Session:
        if self._session is None:
            raise unreachable(self.device, "it is not connected")
        return self._session
