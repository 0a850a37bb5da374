"""The Open Inference Protocol, and Triton's repository calls, on top of the master."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from flexpie import __version__
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master import refusals
from flexpie.master.admin import next_progress
from flexpie.master.interface import merged
from flexpie.master.master import Master
from flexpie.master.records import ModelRecord, ModelState
from flexpie.wire.open_inference_tensors import (
    DATATYPES,
    array_from_contents,
    array_from_raw,
    array_to_contents,
    array_to_raw,
    element_type_of,
)
from flexpie.wire.status import errors_as_status
from flexpie.wire.tensors import Array
from flexpie.wire.v1 import open_inference_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]

VERSION = "1"
"""The only version that every model has."""
PLATFORM = "onnxruntime_onnx"
"""What Triton calls ONNX models."""

_INDEX_STATES = {
    ModelState.READY: "READY",
    ModelState.LOADING: "LOADING",
    ModelState.WAITING: "UNAVAILABLE",
    ModelState.FAILED: "UNAVAILABLE",
    ModelState.UNLOADED: "UNAVAILABLE",
}
_RAW_ONLY = {ElementType.FLOAT16, ElementType.BFLOAT16}


class OpenInferenceServicer:
    """Decodes calls, hands them to the master, encodes its answers."""

    def __init__(self, master: Master, max_request_bytes: int) -> None:
        self._master = master
        self._max_request_bytes = max_request_bytes

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """It answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Whether every model of the cluster file is ready."""
        return pb.ServerReadyResponse(ready=self._master.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether a model takes requests of every profile; like Triton's, an unknown one is just not ready."""
        record = self._master.state.models.get(request.name)
        right_version = request.version in ("", VERSION)
        ready = record is not None and right_version and record.ready
        return pb.ModelReadyResponse(ready=ready and not self._master.state.stopping)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name and version."""
        return pb.ServerMetadataResponse(name="flexpie", version=__version__, extensions=["model_repository"])

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model, once its file was read; a length that differs between profiles is -1."""
        async with errors_as_status(context):
            record = self._model(request.name, request.version)
            if not record.interfaces:
                state, reason = self._master.state.describe(record)
                soon = state is ModelState.LOADING
                raise refusals.not_ready(request.name, state.value, reason, soon=soon).error
            interface = merged(record.interfaces)
            return pb.ModelMetadataResponse(
                name=request.name,
                versions=[VERSION],
                platform=PLATFORM,
                inputs=map(_metadata, interface.inputs),
                outputs=map(_metadata, interface.outputs),
            )

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Answer one request."""
        async with errors_as_status(context):
            return await self._infer(request, context)

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer requests one after another; one that fails is answered with its error, and the stream goes on."""
        async for request in request_iterator:
            try:
                response = await self._infer(request, context)
            except FlexPieError as error:
                answer = pb.ModelStreamInferResponse(error_message=str(error))
                answer.infer_response.id = request.id
                yield answer
            else:
                yield pb.ModelStreamInferResponse(infer_response=response)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Every model that is served or can be loaded by name."""
        models = []
        for record in self._master.state.models.values():
            state, reason = self._master.state.describe(record)
            if state is ModelState.READY or not request.ready:
                index = pb.RepositoryIndexResponse.ModelIndex
                models.append(index(name=record.entry.name, version=VERSION, state=_INDEX_STATES[state], reason=reason))
        return pb.RepositoryIndexResponse(models=models)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model of the cluster file, and answer when it is ready."""
        async with errors_as_status(context):
            if request.parameters:
                raise FlexPieError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"Loading takes no parameters, but has {', '.join(sorted(request.parameters))}.",
                    "Describe the model in the cluster file, or upload it with `flexpie load`.",
                )
            self._master.reload(request.model_name)
            record = self._master.model(request.model_name)
            progress = await next_progress(self._master, record, None)
            while not progress.finished:
                progress = await next_progress(self._master, record, progress)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """End a model; its requests in flight finish."""
        async with errors_as_status(context):
            await self._master.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _infer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        nbytes = request.ByteSize()
        if nbytes > self._max_request_bytes:
            raise FlexPieError(
                ErrorCode.TOO_LARGE,
                f"The request has {nbytes} bytes; the limit is {self._max_request_bytes} bytes.",
                "Send a smaller input, or start the master with a higher --max-request-bytes.",
            )
        record = self._model(request.model_name, request.model_version)
        inputs = inputs_from_proto(request)
        wanted = _wanted_outputs(request, record)
        outputs = await self._master.infer(request.model_name, inputs, context.time_remaining(), client_of(context))
        chosen = [(spec, array) for spec, array in outputs if not wanted or spec.name in wanted]
        return response_to_proto(request, chosen)

    def _model(self, name: str, version: str) -> ModelRecord:
        record = self._master.model(name)
        if version not in ("", VERSION):
            raise FlexPieError(
                ErrorCode.MODEL_NOT_FOUND,
                f"Model {name} has no version {version!r}.",
                f"Its only version is {VERSION!r}; leave the version away.",
            )
        return record


def client_of(context: Context) -> str:
    """Who asks: the name in a certificate, or else the connection."""
    names = list(context.auth_context().get("x509_common_name", ()))
    return names[0].decode("utf-8", "replace") if names else str(context.peer())


def inputs_from_proto(request: pb.ModelInferRequest) -> dict[str, tuple[Array, ElementType]]:
    """The request's arrays by name; raises ``INVALID_INPUT`` for contents that contradict their description."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise _invalid(f"The request has {len(request.inputs)} inputs, but {len(raw)} raw contents.")
    arrays: dict[str, tuple[Array, ElementType]] = {}
    for position, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise _invalid(f"The request has the input {tensor.name!r} twice.")
        if any(key.startswith("shared_memory") for key in tensor.parameters):
            raise _invalid(f"Input {tensor.name} lies in shared memory, which is not supported.")
        if raw and tensor.HasField("contents"):
            raise _invalid(f"Input {tensor.name} has typed contents beside the raw contents of the request.")
        if raw:
            array = array_from_raw(raw[position], tensor.datatype, tensor.shape, tensor.name)
        else:
            array = array_from_contents(tensor.contents, tensor.datatype, tensor.shape, tensor.name)
        arrays[tensor.name] = array, element_type_of(tensor.datatype, tensor.name)
    return arrays


def response_to_proto(request: pb.ModelInferRequest, outputs: list[tuple[TensorSpec, Array]]) -> pb.ModelInferResponse:
    """Outputs as the request had its inputs: raw, unless it used typed contents and all outputs have them."""
    typed = any(tensor.HasField("contents") for tensor in request.inputs)
    raw = not typed or any(spec.dtype in _RAW_ONLY for spec, _ in outputs)
    response = pb.ModelInferResponse(model_name=request.model_name, model_version=VERSION, id=request.id)
    for spec, array in outputs:
        tensor = response.outputs.add(name=spec.name, datatype=DATATYPES[spec.dtype], shape=array.shape)
        if raw:
            response.raw_output_contents.append(bytes(array_to_raw(array)))
        else:
            tensor.contents.CopyFrom(array_to_contents(array, spec.dtype))
    return response


def _wanted_outputs(request: pb.ModelInferRequest, record: ModelRecord) -> set[str]:
    """Names of the outputs that the request asks for; empty for all."""
    names = [spec.name for interface in record.interfaces[:1] for spec in interface.outputs]
    for output in request.outputs:
        if names and output.name not in names:
            raise _invalid(
                f"Model {request.model_name} has no output {output.name!r}.", f"Its outputs: {', '.join(names)}."
            )
        if any(key.startswith("shared_memory") for key in output.parameters):
            raise _invalid(f"Output {output.name} is wanted in shared memory, which is not supported.")
    return {output.name for output in request.outputs}


def _metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=DATATYPES[spec.dtype], shape=spec.shape)


def _invalid(message: str, remedy: str = "") -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_INPUT, message, remedy)
