"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType

import grpc
import numpy.typing as npt

from flexpie.client import messages
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
from flexpie.security.channels import open_channel
from flexpie.security.credentials import TlsFiles
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.v1 import master_pb2
from flexpie.wire.v1 import open_inference_pb2 as pb
from flexpie.wire.v1.master_pb2_grpc import MasterServiceStub


class Client:
    """A connection to a running master. May be used by several threads at once."""

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
        self._channel = open_channel(address, messages.channel_options(), messages.credentials(tls))
        self._inference = OpenInferenceStub(self._channel)
        self._master = MasterServiceStub(self._channel)

    def infer(self, model: str, inputs: Mapping[str, npt.ArrayLike], timeout: float | None = None) -> dict[str, Array]:
        """Run a model once: arrays by input name in, arrays by output name out.

        Raises FlexPieError: MODEL_NOT_FOUND, MODEL_NOT_READY, INVALID_INPUT, TOO_LARGE, OVERLOADED,
        DEADLINE_EXCEEDED, DEVICE_UNREACHABLE, EXECUTION_FAILED.
        """
        request = messages.infer_request(model, inputs)
        seconds = self._timeout if timeout is None else timeout
        deadline, left = time.monotonic() + seconds, seconds
        retries = Retries(deadline, self._reached)
        while True:
            try:
                with self._errors(seconds):
                    return messages.infer_outputs(self._inference.ModelInfer(request, timeout=left))
            except FlexPieError as error:
                pause = retries.pause_after(error, time.monotonic())
                if pause is None or not self._retry:
                    raise
            time.sleep(pause)
            left = deadline - time.monotonic()

    def models(self) -> list[ModelInfo]:
        """Every model that the master serves or is about to serve."""
        with self._errors(self._timeout):
            reply = self._master.Models(master_pb2.ModelsRequest(), timeout=self._timeout)
        return [model_from_proto(message) for message in reply.models]

    def model(self, name: str) -> ModelInfo:
        """One model; raises ``MODEL_NOT_FOUND``."""
        return find_model(name, self.models())

    def status(self) -> MasterStatus:
        """Devices, models and counters."""
        with self._errors(self._timeout):
            reply = self._master.MasterStatus(master_pb2.MasterStatusRequest(), timeout=self._timeout)
        return status_from_proto(reply)

    def ready(self, model: str | None = None) -> bool:
        """Whether a model, or else the whole server, takes requests; False too when the master does not answer."""
        try:
            with self._errors(self._timeout):
                if model is None:
                    reply = self._inference.ServerReady(pb.ServerReadyRequest(), timeout=self._timeout)
                else:
                    request = pb.ModelReadyRequest(name=model)
                    reply = self._inference.ModelReady(request, timeout=self._timeout)
        except FlexPieError as error:
            if error.code in {ErrorCode.DEVICE_UNREACHABLE, ErrorCode.DEADLINE_EXCEEDED}:
                return False
            raise
        return bool(reply.ready)

    def load(
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
        """Upload an ONNX file with its external data, have it deployed, and return when it is ready.

        Without `name` it is served under the file's name. `input_shapes` gives the shapes that the file leaves open;
        `profiles` instead of it gives several sets of them, such as ``[{"x": (1, 64)}, {"x": (4, 64)}]``: each has a
        plan of its own, and a request's shapes choose among them. `plan` is the text of a plan file to deploy instead
        of searching for a plan. `objective` says what the plans are to be best at: the "latency" of one request,
        "throughput" with many requests in flight, or least "memory" on each device. At most `in_flight` runs are under
        way at once (0 leaves it to the master), each of up to `max_batch` requests that wait for one another for
        `batch_wait` seconds at most. `boundary` says what float32 tensors are between devices: "float32", or "float16",
        which halves what they exchange and rounds it (docs/plans.md); a `plan` says it itself.

        Raises FlexPieError: INVALID_MODEL, UNSUPPORTED_MODEL, INVALID_SHAPE, INVALID_ARGUMENT, INVALID_PLAN,
        MODEL_EXISTS, OUT_OF_MEMORY, TOO_LARGE.
        """
        file = Path(path)
        try:
            requests = messages.load_requests(
                file, name, input_shapes, scheme, profiles, plan, objective, in_flight, max_batch, batch_wait, boundary
            )
        except OSError as error:
            raise messages.unreadable(file, error) from error
        with self._errors(timeout):
            for progress in self._master.Load(requests, timeout=timeout):
                if on_progress is not None:
                    on_progress(progress_from_proto(progress))
                if progress.finished:
                    return model_from_proto(progress.model)
        raise FlexPieError(ErrorCode.INTERNAL, "The master ended the upload without a result.")

    def unload(self, name: str) -> None:
        """Serve a model no longer; its requests in flight finish. Raises ``MODEL_NOT_FOUND``."""
        with self._errors(self._timeout):
            self._master.Unload(master_pb2.UnloadRequest(name=name), timeout=self._timeout)

    @contextmanager
    def trace(self, model: str, timeout: float | None = None) -> Iterator[Iterator[RequestTrace]]:
        """Record what the devices do for a model's requests while the block runs.

        Yields an iterator that has a trace of each request that was answered since, once all devices have told it.
        Raises FlexPieError: MODEL_NOT_FOUND, MODEL_NOT_READY, DEVICE_UNREACHABLE, DEADLINE_EXCEEDED.
        """
        seconds = self._timeout if timeout is None else timeout
        call = self._master.TraceModel(master_pb2.TraceModelRequest(name=model), timeout=seconds)
        try:
            with self._errors(seconds):
                next(call)  # from here on all devices record
            yield self._traces(call, seconds)
        finally:
            call.cancel()

    def _traces(self, replies: Iterator[master_pb2.TraceModelReply], seconds: float) -> Iterator[RequestTrace]:
        with self._errors(seconds):
            yield from filter(None, map(TraceParts().add, replies))

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _errors(self, timeout: float | None) -> Iterator[None]:
        try:
            yield
            self._reached = True
        except grpc.RpcError as error:
            found = messages.call_error(error, self.address, timeout)
            self._reached = self._reached or found.code is not ErrorCode.DEVICE_UNREACHABLE
            raise found from error


def find_model(name: str, models: list[ModelInfo]) -> ModelInfo:
    """The model of this name; raises ``MODEL_NOT_FOUND``."""
    for model in models:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in models) or "none"
    raise FlexPieError(ErrorCode.MODEL_NOT_FOUND, f"There is no model {name!r}.", f"Models here: {known}.")
