"""A worker of a few lines, for tests of the master's links: a real gRPC server that does what a test tells it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire import limits
from flexpie.wire.lean_call import DoorAddress, door_handler
from flexpie.wire.status import errors_as_status
from flexpie.wire.v1 import peer_pb2, worker_pb2, worker_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class FakeWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Answers handshakes, keeps blobs, and passes frames to `on_message`."""

    def __init__(self) -> None:
        self.protocol = limits.PROTOCOL
        self.max_message_bytes = 0
        self.silent = False
        """Whether its heart stands still and it leaves health calls unanswered."""
        self.unreachable: list[str] = []
        """Addresses of peers that it does not reach."""
        self.leaving = False
        """Whether it says that it is shutting down."""
        self.refusal: tuple[ErrorCode, str, str] | None = None
        """What it answers deployments with."""
        self.on_message: Callable[[bytes], list[bytes]] = lambda message: []
        """What it sends back for each message on the stream."""
        self.stream_metadata: list[dict[str, str]] = []
        self.blobs: dict[str, bytes] = {}
        self.deployed: list[worker_pb2.DeployRequest] = []
        self.undeployed: list[str] = []
        self.port = 0
        self.door_port = 0
        """Where else it takes streams."""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen: on any port first, on the same one later."""
        self._server = grpc.aio.server(options=limits.server_options())
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(_FakeHealth(self), self._server)
        exchange: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._exchange)
        calls = {
            "Exchange": exchange,
            "Beat": self._beat_handler(),
            "Door": door_handler(lambda: DoorAddress(self.door_port, "")),
        }
        handler = grpc.method_handlers_generic_handler("flexpie.wire.v1.PeerService", calls)
        self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Break every connection."""
        if self._server is not None:
            await self._server.stop(None)

    async def _exchange(self, _: object, context: Context) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.stream_metadata.append(metadata)
        await context.send_initial_metadata(())
        while isinstance(message := await context.read(), bytes):
            for answer in self.on_message(message):
                await context.write(answer)

    async def Handshake(self, request: worker_pb2.HandshakeRequest, context: Context) -> worker_pb2.HandshakeReply:
        return worker_pb2.HandshakeReply(
            version="1",
            protocol=self.protocol,
            worker_id="w",
            memory_bytes=5,
            max_message_bytes=self.max_message_bytes,
        )

    def _beat_handler(self) -> Any:
        async def beat(request: peer_pb2.BeatRequest, context: Context) -> AsyncIterator[peer_pb2.BeatReply]:
            while True:
                if not self.silent:
                    yield peer_pb2.BeatReply(unreachable=self.unreachable)
                await asyncio.sleep(request.interval_milliseconds / 1000)

        return grpc.unary_stream_rpc_method_handler(
            beat,
            request_deserializer=peer_pb2.BeatRequest.FromString,
            response_serializer=peer_pb2.BeatReply.SerializeToString,
        )

    async def CheckPeer(self, request: worker_pb2.CheckPeerRequest, context: Context) -> worker_pb2.CheckPeerReply:
        return worker_pb2.CheckPeerReply(reachable=request.address not in self.unreachable)

    async def OfferBlobs(self, request: worker_pb2.OfferBlobsRequest, context: Context) -> worker_pb2.OfferBlobsReply:
        return worker_pb2.OfferBlobsReply(
            missing_sha256=[blob.sha256 for blob in request.blobs if blob.sha256 not in self.blobs]
        )

    async def PushBlobs(
        self, request_iterator: AsyncIterator[worker_pb2.BlobChunk], context: Context
    ) -> worker_pb2.PushBlobsReply:
        name = ""
        async for chunk in request_iterator:
            if chunk.HasField("blob"):
                name = chunk.blob.sha256
                self.blobs[name] = b""
            self.blobs[name] += chunk.data
        for name, content in self.blobs.items():
            assert hashlib.sha256(content).hexdigest() == name
        return worker_pb2.PushBlobsReply()

    async def Deploy(self, request: worker_pb2.DeployRequest, context: Context) -> worker_pb2.DeployReply:
        async with errors_as_status(context):
            if self.refusal is not None:
                raise FlexPieError(*self.refusal)
            self.deployed.append(request)
        return worker_pb2.DeployReply(resident_bytes=3)

    async def Undeploy(self, request: worker_pb2.UndeployRequest, context: Context) -> worker_pb2.UndeployReply:
        self.undeployed.append(request.deployment_id)
        return worker_pb2.UndeployReply()


class _FakeHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    def __init__(self, worker: FakeWorker) -> None:
        self._worker = worker

    async def Check(self, request: Any, context: Context) -> Any:
        if self._worker.silent:
            await asyncio.Event().wait()
        status = health_pb2.HealthCheckResponse
        return status(status=status.NOT_SERVING if self._worker.leaving else status.SERVING)
