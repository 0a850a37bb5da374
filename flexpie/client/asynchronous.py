"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType

import grpc
import numpy.typing as npt

from flexpie.client import messages
from flexpie.client.blocking import find_model
from flexpie.client.messages import Array, Shapes
from flexpie.client.retrying import Retries
from flexpie.client.trace_parts import TraceParts
from flexpie.client.types import (
    LoadProgress,
    MasterStatus,
    ModelInfo,
    RequestTrace,
    model_from_proto,
    progress_from_proto,
    status_from_proto,
)
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.channels import open_async_channel
from flexpie.security.credentials import TlsFiles
from flexpie.wire.limits import PROTOCOL_KEY
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.v1 import master_pb2
from flexpie.wire.v1 import open_inference_pb2 as pb
from flexpie.wire.v1.master_pb2_grpc import MasterServiceStub


class AsyncClient:
    """A connection to a running master, for one event loop; the twin of `flexpie.Client`."""

    def __init__(
        self,
        address: str = messages.DEFAULT_ADDRESS,
        *,
        timeout: float = messages.DEFAULT_TIMEOUT_SECONDS,
        retry: bool = True,
        tls: TlsFiles | str | PathLike[str] | None = None,
    ) -> None:
        """`address` is ``host:port``; `timeout` is the deadline of each call in seconds. With `retry` a request
        whose failure may pass is sent again until its deadline: the master is overloaded, or was there and is on its
        way back. `tls` is the folder with this client's certificate, as ``flexpie certs issue client`` makes it.
        Connects when it is used. Raises ``INVALID_ARGUMENT`` for another `address`, and for a certificate that cannot
        be used.
        """
        messages.check_address(address)
        self.address = address
        self._timeout = timeout
        self._retry = retry
        self._reached = False
        """Whether the master has ever answered."""
        self._channel = open_async_channel(address, messages.channel_options(), messages.credentials(tls))
        self._inference = OpenInferenceStub(self._channel)
        self._master = MasterServiceStub(self._channel)

    async def infer(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], timeout: float | None = None
    ) -> dict[str, Array]:
        """See `flexpie.Client.infer`. A cancelled call is cancelled on every worker."""
        request = messages.infer_request(model, inputs)
        seconds = self._timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        deadline, left = loop.time() + seconds, seconds
        retries = Retries(deadline, self._reached)
        while True:
            try:
                with self._errors(seconds):
                    return messages.infer_outputs(await self._inference.ModelInfer(request, timeout=left))
            except FlexPieError as error:
                pause = retries.pause_after(error, loop.time())
                if pause is None or not self._retry:
                    raise
            await asyncio.sleep(pause)
            left = deadline - loop.time()

    async def models(self) -> list[ModelInfo]:
        """See `flexpie.Client.models`."""
        with self._errors(self._timeout):
            reply = await self._master.Models(master_pb2.ModelsRequest(), timeout=self._timeout)
        return [model_from_proto(message) for message in reply.models]

    async def model(self, name: str) -> ModelInfo:
        """See `flexpie.Client.model`."""
        return find_model(name, await self.models())

    async def status(self) -> MasterStatus:
        """See `flexpie.Client.status`."""
        with self._errors(self._timeout):
            reply = await self._master.MasterStatus(master_pb2.MasterStatusRequest(), timeout=self._timeout)
        return status_from_proto(reply)

    async def ready(self, model: str | None = None) -> bool:
        """See `flexpie.Client.ready`."""
        try:
            with self._errors(self._timeout):
                if model is None:
                    reply = await self._inference.ServerReady(pb.ServerReadyRequest(), timeout=self._timeout)
                else:
                    request = pb.ModelReadyRequest(name=model)
                    reply = await self._inference.ModelReady(request, timeout=self._timeout)
        except FlexPieError as error:
            if error.code in {ErrorCode.DEVICE_UNREACHABLE, ErrorCode.DEADLINE_EXCEEDED}:
                return False
            raise
        return bool(reply.ready)

    async def load(
        self,
        path: str | PathLike[str],
        name: str | None = None,
        input_shapes: Shapes | None = None,
        scheme: str = "auto",
        on_progress: Callable[[LoadProgress], None] | None = None,
        timeout: float | None = messages.LOAD_TIMEOUT_SECONDS,
        profiles: Sequence[Shapes] | None = None,
        plan: str | None = None,
        objective: str = "latency",
        in_flight: int = 0,
        max_batch: int = 1,
        batch_wait: float = 0.005,
        boundary: str | None = None,
    ) -> ModelInfo:
        """See `flexpie.Client.load`. A cancelled call leaves nothing of the model behind."""
        file = Path(path)
        try:
            requests = await asyncio.to_thread(
                messages.load_requests, file, name, input_shapes, scheme, profiles, plan, objective,
                in_flight, max_batch, batch_wait, boundary,
            )  # fmt: skip
        except OSError as error:
            raise messages.unreadable(file, error) from error
        upload = _Upload(requests)
        with self._errors(timeout), ExitStack() as stack, closing(upload):
            call = self._master.Load(upload.messages(), timeout=timeout)
            stack.callback(call.cancel)
            if PROTOCOL_KEY in dict(await call.initial_metadata()):  # else it is refused
                upload.taken()
            async for progress in call:
                upload.taken()
                if on_progress is not None:
                    on_progress(progress_from_proto(progress))
                if progress.finished:
                    return model_from_proto(progress.model)
        raise FlexPieError(ErrorCode.INTERNAL, "The master ended the upload without a result.")

    async def unload(self, name: str) -> None:
        """See `flexpie.Client.unload`."""
        with self._errors(self._timeout):
            await self._master.Unload(master_pb2.UnloadRequest(name=name), timeout=self._timeout)

    @asynccontextmanager
    async def trace(self, model: str, timeout: float | None = None) -> AsyncIterator[AsyncIterator[RequestTrace]]:
        """See `flexpie.Client.trace`."""
        seconds = self._timeout if timeout is None else timeout
        call = self._master.TraceModel(master_pb2.TraceModelRequest(name=model), timeout=seconds)
        replies = aiter(call)
        try:
            with self._errors(seconds):
                await anext(replies)
            yield self._traces(replies, seconds)
        finally:
            call.cancel()

    async def _traces(
        self, replies: AsyncIterable[master_pb2.TraceModelReply], seconds: float
    ) -> AsyncIterator[RequestTrace]:
        parts = TraceParts()
        with self._errors(seconds):
            async for reply in replies:
                if (trace := parts.add(reply)) is not None:
                    yield trace

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @contextmanager
    def _errors(self, timeout: float | None) -> Iterator[None]:
        try:
            yield
            self._reached = True
        except grpc.RpcError as error:
            found = messages.call_error(error, self.address, timeout)
            self._reached = self._reached or found.code is not ErrorCode.DEVICE_UNREACHABLE
            raise found from error


class _Upload:
    """The messages of an upload, one by one: each is sent when the master has taken the one before. Of a call that ends
    while a message is being sent, gRPC would not tell why."""

    def __init__(self, requests: Iterator[master_pb2.LoadRequest]) -> None:
        self._requests = requests
        self._places = asyncio.Semaphore(0)
        self._closed = False

    async def messages(self) -> AsyncIterator[master_pb2.LoadRequest]:
        """The next message, each time that there is a place for it."""
        while True:
            await self._places.acquire()
            request = None if self._closed else await asyncio.to_thread(next, self._requests, None)
            if request is None:
                return
            yield request

    def taken(self) -> None:
        """The master told something: it has what was sent."""
        self._places.release()

    def close(self) -> None:
        """The call is over: nobody waits for a place any more."""
        self._closed = True
        self._places.release()
