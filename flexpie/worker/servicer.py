"""The worker's gRPC face: decode, call, encode."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import grpc

from flexpie import __version__
from flexpie.core.address import check_address
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import LONGEST_PATIENCE_SECONDS, SHORTEST_PATIENCE_SECONDS, Heartbeat
from flexpie.core.program import BlobRef
from flexpie.wire.codec import blob_from_proto, program_from_proto
from flexpie.wire.limits import MAX_BLOBS, PROTOCOL
from flexpie.wire.status import errors_as_status
from flexpie.wire.v1 import holdings_pb2, trace_pb2, worker_pb2, worker_pb2_grpc
from flexpie.worker.deployment import Deployment
from flexpie.worker.engine import ENGINE_VERSION
from flexpie.worker.events import DeploymentsClaimed, DeployRequested, UndeployRequested
from flexpie.worker.node import WorkerNode
from flexpie.worker.store import BlobWriter, Store

_Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerIdentity:
    """What a worker tells about itself."""

    worker_id: str
    memory_bytes: int
    threads: int
    max_message_bytes: int
    certificate_expires_at: int = 0
    """In seconds since 1970; 0 without a certificate."""


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """The calls of a master."""

    def __init__(self, node: WorkerNode, identity: WorkerIdentity) -> None:
        self._node = node
        self._identity = identity
        self._started_at = time.monotonic()
        self._uploads = 0

    async def Handshake(self, request: worker_pb2.HandshakeRequest, context: _Context) -> worker_pb2.HandshakeReply:
        async with errors_as_status(context):
            if request.protocol != PROTOCOL:
                raise FlexPieError(
                    ErrorCode.VERSION_MISMATCH,
                    f"The master runs FlexPie {request.version} (protocol {request.protocol}), this worker "
                    f"{__version__} (protocol {PROTOCOL}).",
                    "Install the same version on both.",
                )
            if request.master_id:
                self._node.handle(DeploymentsClaimed(request.master_id, frozenset(request.deployment_ids)))
            if request.dead_after_milliseconds:
                self._node.peers.heartbeat = _heartbeat(request.dead_after_milliseconds)
        return worker_pb2.HandshakeReply(
            version=__version__,
            protocol=PROTOCOL,
            worker_id=self._identity.worker_id,
            onnxruntime_version=ENGINE_VERSION,
            memory_bytes=self._identity.memory_bytes,
            threads=self._identity.threads,
            max_message_bytes=self._identity.max_message_bytes,
            certificate_expires_at=self._identity.certificate_expires_at,
        )

    async def OfferBlobs(self, request: worker_pb2.OfferBlobsRequest, context: _Context) -> worker_pb2.OfferBlobsReply:
        missing: list[BlobRef] = []
        async with errors_as_status(context):
            if len(request.blobs) > MAX_BLOBS:
                what = f"A package of {len(request.blobs)} blobs was offered; the limit is {MAX_BLOBS}."
                raise FlexPieError(ErrorCode.TOO_LARGE, what, "Divide the model less, or over other devices.")
            blobs = [blob_from_proto(blob) for blob in request.blobs]
            loop = asyncio.get_running_loop()
            missing = await loop.run_in_executor(self._node.disk, self._node.store.take_offer, blobs)
        return worker_pb2.OfferBlobsReply(missing_sha256=[blob.sha256 for blob in missing])

    async def PushBlobs(
        self, request_iterator: AsyncIterator[worker_pb2.BlobChunk], context: _Context
    ) -> worker_pb2.PushBlobsReply:
        upload = _Upload(self._node.store, self._node.disk)
        async with errors_as_status(context):
            self._uploads += 1
            try:
                async for chunk in request_iterator:
                    await upload.take(chunk)
                await upload.finish_blob()
            finally:
                self._uploads -= 1
                upload.abort()
        _log.info("blobs stored count=%d bytes=%d", upload.blobs, upload.nbytes)
        return worker_pb2.PushBlobsReply(blobs=upload.blobs, nbytes=upload.nbytes)

    async def Deploy(self, request: worker_pb2.DeployRequest, context: _Context) -> worker_pb2.DeployReply:
        node, reply = self._node, worker_pb2.DeployReply()
        async with errors_as_status(context):
            for address in request.peers.values():
                _check_peer(address)
            event = DeployRequested(
                request.deployment_id,
                program_from_proto(request.program),
                request.master_id,
                request.model,
                tuple(request.device_names),
            )
            resources = await node.deploy(event, dict(request.peers), in_background=request.in_background)
            reply.build_seconds = resources.build_seconds
            reply.resident_bytes = node.state.deployments[request.deployment_id].resident_bytes
            reply.max_requests = node.state.most_requests(request.deployment_id)
        return reply

    async def Undeploy(self, request: worker_pb2.UndeployRequest, context: _Context) -> worker_pb2.UndeployReply:
        async with errors_as_status(context):
            self._node.handle(UndeployRequested(request.deployment_id))
        return worker_pb2.UndeployReply()

    async def WorkerStatus(
        self, request: worker_pb2.WorkerStatusRequest, context: _Context
    ) -> worker_pb2.WorkerStatusReply:
        node, cpu = self._node, self._node.cpu()
        return worker_pb2.WorkerStatusReply(
            worker_id=self._identity.worker_id,
            version=__version__,
            deployments=[self._deployment_status(known) for known in node.state.deployments.values()],
            store_bytes=node.store.used_bytes,
            store_limit_bytes=node.store.limit_bytes,
            uptime_seconds=time.monotonic() - self._started_at,
            holdings=holdings_pb2.Holdings(
                requests=len(node.state.requests),
                request_bytes=node.state.buffered_bytes,
                tensors=node.tensors,
                uploads=self._uploads,
                threads=threading.active_count(),
                tasks=len(asyncio.all_tasks()),
            ),
            cpu=worker_pb2.CpuSeconds(
                process=cpu.process, engine=cpu.engine, steps=cpu.steps, event_loop=cpu.event_loop
            ),
        )

    async def CheckPeer(self, request: worker_pb2.CheckPeerRequest, context: _Context) -> worker_pb2.CheckPeerReply:
        reachable = False
        async with errors_as_status(context):
            _check_peer(request.address)
            reachable = await self._node.peers.check(request.address)
        return worker_pb2.CheckPeerReply(reachable=reachable)

    async def Trace(self, request: worker_pb2.TraceRequest, context: _Context) -> AsyncIterator[trace_pb2.RequestTrace]:
        async with errors_as_status(context):
            if request.deployment_id not in self._node.state.deployments:
                what = f"This worker does not have the deployment {request.deployment_id}."
                raise FlexPieError(ErrorCode.MODEL_NOT_READY, what)
            with self._node.tracer.listening(request.deployment_id) as traces:
                yield trace_pb2.RequestTrace()
                while (trace := await traces.get()) is not None:
                    yield trace

    def _deployment_status(self, deployment: Deployment) -> worker_pb2.DeploymentStatus:
        resources = self._node.resources.get(deployment.deployment_id)
        return worker_pb2.DeploymentStatus(
            deployment_id=deployment.deployment_id,
            model=deployment.model,
            ready=deployment.ready,
            requests_in_flight=len(self._node.state.requests_of(deployment.deployment_id)),
            requests_done=deployment.requests_done,
            requests_failed=deployment.requests_failed,
            frames_sent=deployment.frames_sent,
            bytes_sent=resources.bytes_sent if resources is not None else 0,
            frames_received=deployment.frames_received,
            bytes_received=deployment.bytes_received,
            compute_seconds=deployment.compute_seconds,
        )


def _check_peer(address: str) -> None:
    try:
        check_address(address)
    except ValueError as error:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"A peer's address is {error}, not {address[:80]!r}.") from None


def _heartbeat(dead_after_milliseconds: int) -> Heartbeat:
    seconds = dead_after_milliseconds / 1000
    if not SHORTEST_PATIENCE_SECONDS <= seconds <= LONGEST_PATIENCE_SECONDS:
        what = f"A peer cannot be given up after {seconds:g} s."
        bounds = f"Choose {SHORTEST_PATIENCE_SECONDS:g} to {LONGEST_PATIENCE_SECONDS:g} s."
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, bounds)
    return Heartbeat(seconds)


class _Upload:
    """Blobs that come in chunk by chunk; files are written on the disk thread."""

    def __init__(self, store: Store, disk: Executor) -> None:
        self.blobs = 0
        self.nbytes = 0
        self._store = store
        self._disk = disk
        self._writer: BlobWriter | None = None

    async def take(self, chunk: worker_pb2.BlobChunk) -> None:
        """The next chunk; raises ``CORRUPT_PACKAGE`` or ``TOO_LARGE``."""
        loop = asyncio.get_running_loop()
        if chunk.HasField("blob"):
            await self.finish_blob()
            self._writer = await loop.run_in_executor(self._disk, self._store.writer, blob_from_proto(chunk.blob))
        if self._writer is None:
            raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, "A chunk came before the blob that it belongs to.")
        if chunk.data:
            await loop.run_in_executor(self._disk, self._writer.write, chunk.data)
            self.nbytes += len(chunk.data)

    async def finish_blob(self) -> None:
        """Put the blob whose chunks have come into the store."""
        if self._writer is not None:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._writer.commit)
            self._writer = None
            self.blobs += 1

    def abort(self) -> None:
        """Forget a blob that is not complete."""
        if self._writer is not None:
            self._disk.submit(self._writer.abort)
