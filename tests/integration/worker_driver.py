"""A master for tests of workers: it does exactly what it is told, also what no real master would do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from flexpie.core.program import MASTER, BlobRef, DeviceProgram
from flexpie.security.channels import open_async_channel
from flexpie.security.credentials import Credentials
from flexpie.wire.codec import blob_to_proto, program_to_proto
from flexpie.wire.framing import Cancel, Content, Data, Failure, Frame, decode_frame, encode_frame
from flexpie.wire.limits import (
    DEPLOYMENT_KEY,
    MASTER_KEY,
    MASTER_SOURCE,
    PROTOCOL,
    PROTOCOL_KEY,
    SOURCE_KEY,
    channel_options,
)
from flexpie.wire.status import error_from_rpc
from flexpie.wire.tensors import Array, array_to_bytes
from flexpie.wire.v1 import worker_pb2, worker_pb2_grpc
from tests.worker_programs import Package, X

WAIT_SECONDS = 30.0
EXCHANGE = "/flexpie.wire.v1.PeerService/Exchange"
MASTER_ID = "the driver"
NAMES = ("anna", "bert")

_numbers = itertools.count(1)


class DataStream:
    """A stream to a worker, as the master or a peer opens it."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Mapping[str, str]) -> None:
        self._call: grpc.aio.StreamStreamCall[Any, Any] = channel.stream_stream(EXCHANGE)(
            metadata=tuple(metadata.items())
        )

    async def send(self, message: bytes) -> None:
        """Write a message; an error shows at the next `receive`."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await asyncio.wait_for(self._call.write(message), WAIT_SECONDS)

    async def receive(self) -> Frame:
        """The next frame; raises the error that ended the stream, or ``EOFError`` when it ended in order."""
        try:
            message = await asyncio.wait_for(self._call.read(), WAIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, "worker") from error
        if isinstance(message, bytes):
            return decode_frame(message)
        if await self._call.code() is grpc.StatusCode.OK:
            raise EOFError
        code, details = await self._call.code(), await self._call.details()
        empty, trailing = await self._call.initial_metadata(), await self._call.trailing_metadata()
        raise error_from_rpc(grpc.aio.AioRpcError(code, empty, trailing, details), "worker")

    def close(self) -> None:
        """End it, as a caller that goes away."""
        self._call.cancel()


@dataclass
class Worker:
    """One worker as the driver sees it."""

    channel: grpc.aio.Channel
    stub: Any
    stream: DataStream


class Driver:
    """The connections to all workers of a test."""

    def __init__(
        self, addresses: Iterable[str], master_id: str = MASTER_ID, credentials: Credentials | None = None
    ) -> None:
        self.addresses = list(addresses)
        self.master_id = master_id
        self._credentials = credentials
        self.workers = [self._connect(address) for address in self.addresses]

    def _connect(self, address: str) -> Worker:
        channel = open_async_channel(address, channel_options(), self._credentials)
        stream = DataStream(channel, master_metadata(self.master_id))
        return Worker(channel, worker_pb2_grpc.WorkerServiceStub(channel), stream)

    async def call(self, index: int, name: str, request: Any, timeout_seconds: float = WAIT_SECONDS) -> Any:
        """A call to a worker; raises the error that it fails with."""
        try:
            return await getattr(self.workers[index].stub, name)(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, "worker") from error

    async def missing(self, index: int, program: DeviceProgram) -> list[str]:
        """Hashes of the blobs that a worker lacks."""
        refs = [blob_to_proto(blob) for blob in blobs_of(program)]
        reply = await self.call(index, "OfferBlobs", worker_pb2.OfferBlobsRequest(blobs=refs))
        return list(reply.missing_sha256)

    async def push(self, index: int, blobs: Mapping[BlobRef, bytes]) -> Any:
        """Bring blobs, in chunks of seven bytes."""

        def chunks() -> Iterable[worker_pb2.BlobChunk]:
            for ref, content in blobs.items():
                yield worker_pb2.BlobChunk(blob=blob_to_proto(ref))
                for start in range(0, len(content), 7):
                    yield worker_pb2.BlobChunk(data=content[start : start + 7])

        return await self.call(index, "PushBlobs", chunks())

    async def deploy(self, package: Package, deployment_id: str, only: int | None = None, **fields: Any) -> None:
        """Push and deploy on every worker (or one)."""
        for index, program in enumerate(package.programs):
            if only in (None, index):
                lacking = set(await self.missing(index, program))
                blobs = {blob: package.blobs[blob.sha256] for blob in blobs_of(program) if blob.sha256 in lacking}
                await self.push(index, blobs)
        deploys = [
            self.call(index, "Deploy", self.deploy_request(program, deployment_id, **fields))
            for index, program in enumerate(package.programs)
            if only in (None, index)
        ]
        await asyncio.gather(*deploys)

    def deploy_request(self, program: DeviceProgram, deployment_id: str, **fields: Any) -> worker_pb2.DeployRequest:
        """What `deploy` asks for."""
        wanted = {
            "peers": dict(enumerate(self.addresses)),
            "device_names": NAMES,
            "master_id": self.master_id,
            **fields,
        }
        return worker_pb2.DeployRequest(deployment_id=deployment_id, program=program_to_proto(program), **wanted)

    def request_id(self) -> int:
        """A new one."""
        return next(_numbers)

    async def scatter(self, index: int, deployment_id: str, request_id: int, x: Array = X, timeout: float = 20) -> None:
        """Send one worker its half of the input."""
        half = x[:4] if index == 0 else x[4:]
        message = encode_frame(deployment_id, request_id, int(timeout * 1000), Data(0, MASTER), [array_to_bytes(half)])
        await self.workers[index].stream.send(message)

    async def gather(self, index: int) -> tuple[int, Array]:
        """The next result of a worker: request and part of the output; raises the failure that comes instead."""
        frame = await self.workers[index].stream.receive()
        if isinstance(frame.content, Failure):
            raise frame.content.error
        assert frame.content == Data(2, index)
        return frame.request_id, np.frombuffer(frame.payload, np.float32)

    async def infer(self, deployment_id: str, x: Array = X, timeout: float = 20) -> Array:
        """One request from input to output."""
        request_id = self.request_id()
        for index in range(len(self.workers)):
            await self.scatter(index, deployment_id, request_id, x, timeout)
        parts = []
        for index in range(len(self.workers)):
            number, part = await self.gather(index)
            assert number == request_id
            parts.append(part)
        return np.concatenate(parts)

    async def send(self, index: int, deployment_id: str, request_id: int, content: Content) -> None:
        """Send a frame without payload."""
        await self.workers[index].stream.send(encode_frame(deployment_id, request_id, 0, content))

    async def cancel(self, index: int, deployment_id: str, request_id: int) -> None:
        """Cancel a request on a worker."""
        await self.send(index, deployment_id, request_id, Cancel("the test is not interested"))

    async def deployment_status(self, index: int, deployment_id: str) -> worker_pb2.DeploymentStatus | None:
        """What a worker tells about a deployment."""
        reply = await self.call(index, "WorkerStatus", worker_pb2.WorkerStatusRequest())
        return next((known for known in reply.deployments if known.deployment_id == deployment_id), None)

    async def wait_for_idle(self, index: int, deployment_id: str) -> worker_pb2.DeploymentStatus:
        """The status of a deployment once none of its requests is in flight."""
        return await self._wait_for(index, deployment_id, lambda status: status.requests_in_flight == 0)

    async def wait_for_request(self, index: int, deployment_id: str) -> None:
        """Return when a request of the deployment is in flight."""
        await self._wait_for(index, deployment_id, lambda status: status.requests_in_flight > 0)

    async def _wait_for(
        self, index: int, deployment_id: str, reached: Callable[[worker_pb2.DeploymentStatus], bool]
    ) -> worker_pb2.DeploymentStatus:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_SECONDS
        while loop.time() < deadline:
            status = await self.deployment_status(index, deployment_id)
            assert status is not None
            if reached(status):
                return status
        raise AssertionError(f"not within {WAIT_SECONDS} s")

    def open_stream(self, index: int, metadata: Mapping[str, str]) -> DataStream:
        """One more stream to a worker."""
        return DataStream(self.workers[index].channel, metadata)

    async def close(self) -> None:
        """Go away."""
        for worker in self.workers:
            worker.stream.close()
            await worker.channel.close()


@asynccontextmanager
async def driving(
    *addresses: str, master_id: str = MASTER_ID, credentials: Credentials | None = None
) -> AsyncIterator[Driver]:
    """A driver for the workers at these addresses."""
    driver = Driver(addresses, master_id, credentials)
    try:
        yield driver
    finally:
        await driver.close()


def master_metadata(master_id: str = MASTER_ID) -> dict[str, str]:
    """What a master says on its stream."""
    return {PROTOCOL_KEY: str(PROTOCOL), SOURCE_KEY: MASTER_SOURCE, MASTER_KEY: master_id}


def peer_metadata(source: int, deployment_id: str) -> dict[str, str]:
    """What a worker says on its stream to another."""
    return {PROTOCOL_KEY: str(PROTOCOL), SOURCE_KEY: str(source), DEPLOYMENT_KEY: deployment_id}


def blobs_of(program: DeviceProgram) -> list[BlobRef]:
    """Everything that a program's subgraphs refer to."""
    return [blob for graph in program.subgraphs for blob in (graph.model, *graph.weights)]
