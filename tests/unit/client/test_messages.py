"""What a client sends and takes for its arrays and files, and the errors it makes of statuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from flexpie.client import Client, messages
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire import limits
from flexpie.wire.status import CODE_KEY, REMEDY_KEY
from flexpie.wire.v1 import open_inference_pb2 as pb


def _answer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """A response that gives the inputs back."""
    response = pb.ModelInferResponse(raw_output_contents=request.raw_input_contents)
    for tensor in request.inputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response


@pytest.mark.parametrize(
    "value",
    [
        np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        np.arange(6).reshape(2, 3)[:, ::2],
        np.array(7, np.uint8),
        np.array([True, False]),
        np.zeros((0, 3), np.float16),
        np.array([1, 2, 3], dtype=">i4"),
    ],
)
def test_arrays_travel_unchanged(value: Any) -> None:
    (output,) = messages.infer_outputs(_answer(messages.infer_request("m", {"x": value}))).values()
    np.testing.assert_array_equal(output, value)
    assert output.shape == value.shape
    assert output.dtype == value.dtype.newbyteorder("=")
    assert output.flags.writeable


def test_texts_travel_as_bytes() -> None:
    request = messages.infer_request("m", {"x": ["grün", ""]})
    assert request.inputs[0].datatype == "BYTES"
    assert messages.infer_outputs(_answer(request))["x"].tolist() == ["grün", ""]


def test_bfloat16_comes_back_as_float32() -> None:
    response = pb.ModelInferResponse(raw_output_contents=[np.array([0x3FC0, 0xC000], np.uint16).tobytes()])
    response.outputs.add(name="y", datatype="BF16", shape=[2])
    np.testing.assert_array_equal(messages.infer_outputs(response)["y"], np.array([1.5, -2.0], np.float32))


def test_typed_contents_are_understood_too() -> None:
    response = pb.ModelInferResponse()
    response.outputs.add(name="y", datatype="INT64", shape=[2]).contents.int64_contents.extend([3, 4])
    np.testing.assert_array_equal(messages.infer_outputs(response)["y"], [3, 4])


@pytest.mark.parametrize("address", ["localhost:50050", "[::1]:1", "pi.local:65535", "unix:/run/x", "dns:///pi:1"])
def test_addresses(address: str) -> None:
    messages.check_address(address)


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":50050", "a:0", "a:70000", "a:b", "http:50x"])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(FlexPieError, match="no address") as caught:
        Client(address)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_no_message_is_too_large_for_a_client() -> None:
    options = messages.channel_options()
    for direction in ("send", "receive"):
        assert [value for key, value in options if key == f"grpc.max_{direction}_message_length"] == [-1]


@pytest.mark.parametrize("shape", [(1, 2**70), (1.5,), ("a",)])
def test_shapes_that_are_none(shape: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(FlexPieError) as caught:
        messages.load_requests(path, None, {"x": shape}, "auto")
    assert caught.value.code is ErrorCode.INVALID_SHAPE


def test_a_type_that_no_model_takes_is_refused() -> None:
    with pytest.raises(FlexPieError, match="complex64") as caught:
        messages.infer_request("m", {"x": np.zeros(2, np.complex64)})
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_a_file_is_cut_into_chunks(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    content = bytes(range(256)) * 10_000
    path.write_bytes(content)
    spec, *chunks = messages.load_requests(path, None, {"x": [1, 2]}, "InH")
    assert spec.spec.name == "model"
    assert spec.spec.scheme == "InH"
    assert spec.spec.total_bytes == len(content)
    assert list(spec.spec.input_shapes["x"].dims) == [1, 2]
    assert [message.chunk.file_name for message in chunks] == ["model.onnx", "", ""]
    assert max(len(message.chunk.data) for message in chunks) == limits.CHUNK_BYTES
    assert b"".join(message.chunk.data for message in chunks) == content


def test_a_model_is_loaded_with_profiles_instead_of_shapes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    profiles: list[dict[str, Sequence[int]]] = [{"x": [1, 2]}, {"x": (4, 2), "n": ()}]
    spec, _ = messages.load_requests(path, None, None, "auto", profiles)
    assert not spec.spec.input_shapes
    sent = [{name: list(shape.dims) for name, shape in item.input_shapes.items()} for item in spec.spec.profiles]
    assert sent == [{"x": [1, 2]}, {"x": [4, 2], "n": []}]
    with pytest.raises(FlexPieError, match="Both input_shapes and profiles") as caught:
        messages.load_requests(path, None, {"x": [1]}, "auto", profiles)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_empty_file_is_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    _, chunk = messages.load_requests(path, "name", None, "auto")
    assert chunk.chunk.file_name == "model.onnx"


class FakeRpcError(grpc.RpcError):
    """What gRPC raises."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


@pytest.mark.parametrize(
    ("status", "details", "code", "text", "remedy"),
    [
        ("UNAVAILABLE", "refused", "DEVICE_UNREACHABLE", "The master at pi:1 does not answer", "Check that it runs"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "DEADLINE_EXCEEDED", "did not answer within 5 s", "more time"),
        (
            "RESOURCE_EXHAUSTED",
            "SERVER: Received message larger than max (9 vs. 8)",
            "TOO_LARGE",
            "(9 vs. 8)",
            "--max-request-bytes",
        ),
        ("INTERNAL", "", "INTERNAL", "INTERNAL", ""),
    ],
)
def test_statuses_of_grpc_become_errors_with_remedies(
    status: str, details: str, code: str, text: str, remedy: str
) -> None:
    error = messages.call_error(FakeRpcError(grpc.StatusCode[status], details), "pi:1", 5.0)
    assert error.code is ErrorCode[code]
    assert text in error.message
    assert remedy in error.remedy


def test_the_masters_own_error_is_rebuilt() -> None:
    metadata = ((CODE_KEY, "OVERLOADED"), (REMEDY_KEY, b"Wait."))
    error = messages.call_error(FakeRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Busy.", metadata), "pi:1", 5.0)
    assert (error.code, error.message, error.remedy) == (ErrorCode.OVERLOADED, "Busy.", "Wait.")
