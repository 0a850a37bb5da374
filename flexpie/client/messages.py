"""Arrays and files as the messages of a client's calls, and errors of calls as FlexPie's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.security.credentials import Credentials, TlsFiles
from flexpie.wire import limits
from flexpie.wire.external_data import external_files
from flexpie.wire.open_inference_tensors import (
    DATATYPES,
    array_from_contents,
    array_from_raw,
    array_to_raw,
    bfloat16_to_float32,
    element_type_of,
)
from flexpie.wire.status import error_from_rpc
from flexpie.wire.v1 import master_pb2
from flexpie.wire.v1 import open_inference_pb2 as pb

Array = npt.NDArray[Any]
Shapes = Mapping[str, Sequence[int]]

DEFAULT_ADDRESS = "localhost:50050"
DEFAULT_TIMEOUT_SECONDS = 60.0
LOAD_TIMEOUT_SECONDS = 600.0


def channel_options() -> limits.ChannelOptions:
    """The master bounds what it takes; answers may be as large as they are. One that is back is found soon."""
    options = dict(limits.channel_options(max_message_bytes=-1))
    return [*(options | {"grpc.max_reconnect_backoff_ms": 500}).items()]


def check_address(address: str) -> None:
    """Raise ``INVALID_ARGUMENT`` for what is not ``host:port``; gRPC's other names (``unix:``, ``dns:///``) pass."""
    scheme = re.match(r"[a-z0-9-]+:(?=/)|unix:|unix-abstract:", address)
    host, colon, port = address.rpartition(":")
    if not scheme and not (colon and host and port.isdecimal() and 1 <= int(port) <= 65535):
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"{address!r} is no address.", "Write it as host:port, such as "
            f"{DEFAULT_ADDRESS}."
        )  # fmt: skip


def credentials(tls: TlsFiles | str | PathLike[str] | None) -> Credentials | None:
    """What the client shows to the master; raises ``INVALID_ARGUMENT`` for files that cannot be used."""
    if tls is None:
        return None
    from flexpie.security.certificates import load_credentials  # not needed without certificates, and not small

    return load_credentials(tls)


def infer_request(model: str, inputs: Mapping[str, npt.ArrayLike]) -> pb.ModelInferRequest:
    """A request with raw contents; raises ``INVALID_INPUT`` for arrays of a type that no model takes."""
    request = pb.ModelInferRequest(model_name=model)
    for name, value in inputs.items():
        array, kind = _sendable(name, np.asarray(value))
        request.inputs.add(name=name, datatype=DATATYPES[kind], shape=array.shape)
        request.raw_input_contents.append(bytes(array_to_raw(array)))
    return request


def _sendable(name: str, array: Array) -> tuple[Array, ElementType]:
    if array.dtype.kind in "USO":
        return array.astype(object), ElementType.STRING
    if array.dtype.name == "bfloat16":  # ml_dtypes'
        return array.view(np.uint16), ElementType.BFLOAT16
    try:
        kind = ElementType(array.dtype.name)
    except ValueError:
        raise FlexPieError(
            ErrorCode.INVALID_INPUT,
            f"Input {name} has the element type {array.dtype}, which no model takes.",
            "Convert it to the type that the model expects, such as float32.",
        ) from None
    return array.astype(array.dtype.newbyteorder("<"), copy=False), kind


def infer_outputs(response: pb.ModelInferResponse) -> dict[str, Array]:
    """The outputs by name, as arrays that may be written to; bfloat16 comes as float32."""
    outputs = {}
    for position, tensor in enumerate(response.outputs):
        if response.raw_output_contents:
            raw = response.raw_output_contents[position]
            array = array_from_raw(raw, tensor.datatype, tensor.shape, tensor.name)
        else:
            array = array_from_contents(tensor.contents, tensor.datatype, tensor.shape, tensor.name)
        if element_type_of(tensor.datatype, tensor.name) is ElementType.BFLOAT16:
            array = bfloat16_to_float32(array)
        outputs[tensor.name] = array.copy()
    return outputs


def load_requests(
    path: Path,
    name: str | None,
    input_shapes: Shapes | None,
    scheme: str,
    profiles: Sequence[Shapes] | None = None,
    plan: str | None = None,
    objective: str = "latency",
    in_flight: int = 0,
    max_batch: int = 1,
    batch_wait: float = 0.005,
    boundary: str | None = None,
) -> Iterator[master_pb2.LoadRequest]:
    """The messages that upload a model with its external data, file by file.

    Raises OSError, at once or in between, for a file that cannot be read; ``INVALID_ARGUMENT`` for both `input_shapes`
    and `profiles`, or for numbers below zero; ``INVALID_SHAPE`` for shapes that are none.
    """
    if min(in_flight, max_batch, batch_wait) < 0:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            "in_flight, max_batch or batch_wait is below zero.",
            "Leave it away, or give more.",
        )
    if input_shapes and profiles:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "Both input_shapes and profiles are given.", "Give one of them.")
    files = [(path, path.name)]
    files += [(path.resolve().parent / location, location) for location in external_files(path)]
    total = sum(file.stat().st_size for file, _ in files)
    spec = master_pb2.LoadSpec(
        name=path.stem if name is None else name,
        input_shapes=_shapes(input_shapes or {}),
        scheme=scheme,
        total_bytes=total,
        profiles=[master_pb2.Profile(input_shapes=_shapes(profile)) for profile in profiles or ()],
        plan=plan,
        objective=objective,
        boundary=boundary,
        in_flight=in_flight,
        batching=master_pb2.Batching(max=max_batch, wait_seconds=batch_wait) if max_batch != 1 else None,
    )
    return _upload(spec, files)


def _shapes(shapes: Shapes) -> dict[str, master_pb2.Shape]:
    try:
        return {name: master_pb2.Shape(dims=dims) for name, dims in shapes.items()}
    except (TypeError, ValueError) as error:
        raise FlexPieError(ErrorCode.INVALID_SHAPE, f"The shapes {dict(shapes)} cannot be sent: {error}.",
                           "Give whole numbers, such as {'x': (1, 64)}.") from error  # fmt: skip


def _upload(spec: master_pb2.LoadSpec, files: Sequence[tuple[Path, str]]) -> Iterator[master_pb2.LoadRequest]:
    yield master_pb2.LoadRequest(spec=spec)
    for path, file_name in files:
        with path.open("rb") as file:
            data = file.read(limits.CHUNK_BYTES)
            yield master_pb2.LoadRequest(chunk=master_pb2.FileChunk(file_name=file_name, data=data))
            while data := file.read(limits.CHUNK_BYTES):
                yield master_pb2.LoadRequest(chunk=master_pb2.FileChunk(data=data))


def unreadable(path: Path, error: OSError) -> FlexPieError:
    """The error for a model file that cannot be read."""
    return FlexPieError(
        ErrorCode.INVALID_MODEL, f"{path} cannot be read: {error.strerror or error}.", "Check the path."
    )


def call_error(error: grpc.RpcError, address: str, timeout_seconds: float | None) -> FlexPieError:
    """The error that a call to the master failed with."""
    found = error_from_rpc(error, f"The master at {address}")
    if found.remedy:
        return found  # it is the master's own
    match found.code:
        case ErrorCode.DEADLINE_EXCEEDED:
            within = "in time" if timeout_seconds is None else f"within {timeout_seconds:g} s"
            text = f"The master at {address} did not answer {within}."
            return FlexPieError(found.code, text, "Give it more time, or look at `flexpie status`.")
        case ErrorCode.TOO_LARGE if "larger than max" in found.message:
            remedy = "Send a smaller input, or start the master with a higher --max-request-bytes."
            return FlexPieError(found.code, f"{found.message}.", remedy)
    return found
