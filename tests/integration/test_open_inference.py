"""The Open Inference Protocol as Triton's own client speaks it, against real daemons."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

import flexpie
from flexpie.core.errors import FlexPieError
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.v1 import open_inference_pb2 as pb
from tests.daemons import LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 30.0
DATATYPES = dict(zip(models.TYPES, ["FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16",
                                    "UINT32", "UINT64", "BOOL"], strict=True))  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[LocalCluster]:
    """Three workers and a master with every small model, the first one really split."""
    models.convolutions(folder / "conv.onnx")
    models.every_type(folder / "types.onnx")
    models.two_outputs(folder / "two.onnx")
    models.two_outputs(folder / "nothing.onnx", rows=0)
    more = "models:\n- {path: conv.onnx, scheme: InH}\n- path: types.onnx\n- path: two.onnx\n- path: nothing.onnx\n"
    with local_cluster(folder, 3, more) as running:
        with flexpie.Client(running.address, timeout=TIMEOUT) as client:
            wait_until(client.ready, "every model is ready")
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(cluster.address) as opened:
        yield opened


@pytest.fixture
def stub(cluster: LocalCluster) -> Iterator[OpenInferenceStub]:
    with grpc.insecure_channel(cluster.address) as channel:
        yield OpenInferenceStub(channel)


def _image_input(image: models.Array) -> triton.InferInput:
    tensor = triton.InferInput("image", image.shape, "FP32")
    tensor.set_data_from_numpy(image)
    return tensor


def _status(caught: pytest.ExceptionInfo[InferenceServerException]) -> str:
    return str(caught.value.status())


def test_metadata_and_readiness(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("conv")
    assert client.is_model_ready("conv", "1")
    assert not client.is_model_ready("conv", "2")
    assert not client.is_model_ready("cow")
    server = client.get_server_metadata()
    assert (server.name, server.version) == ("flexpie", flexpie.__version__)
    model = client.get_model_metadata("conv", as_json=True)
    assert model == {
        "name": "conv",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": ["1", "3", "16", "12"]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": ["1", "5", "16", "12"]}],
    }


def test_the_split_answer_is_that_of_the_unsplit_model(folder: Path, client: triton.InferenceServerClient) -> None:
    image = models.random_image()
    result = client.infer("conv", [_image_input(image)], request_id="number 7")
    expected = models.run_unsplit(folder / "conv.onnx", {"image": image})["scores"]
    np.testing.assert_allclose(result.as_numpy("scores"), expected, atol=1e-4)
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("number 7", "conv", "1")


def test_many_asynchronous_requests_get_their_own_answers(folder: Path, client: triton.InferenceServerClient) -> None:
    images = [models.random_image(seed) for seed in range(12)]
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number, image in enumerate(images):
        client.async_infer(
            "conv",
            [_image_input(image)],
            callback=lambda result, error, number=number: answers.put((number, result, error)),
        )
    for _ in images:
        number, result, error = answers.get(timeout=TIMEOUT)
        assert error is None
        expected = models.run_unsplit(folder / "conv.onnx", {"image": images[number]})["scores"]
        np.testing.assert_allclose(result.as_numpy("scores"), expected, atol=1e-4)


def test_a_stream_answers_every_request_and_survives_a_wrong_one(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer("conv", [_image_input(models.random_image())], request_id="a")
        client.async_stream_infer("cow", [_image_input(models.random_image())], request_id="b")
        client.async_stream_infer("conv", [_image_input(models.random_image())], request_id="c")
        found = [answers.get(timeout=TIMEOUT) for _ in range(3)]
    finally:
        client.stop_stream()
    assert [result.get_response().id for result, error in found if error is None] == ["a", "c"]
    assert "There is no model 'cow'" in str(found[1][1])


def _typed_values() -> dict[str, models.Array]:
    values: dict[str, models.Array] = {}
    for name in models.TYPES:
        if name == "bool":
            values[name] = np.array([[True, False, True], [False, False, True]])
        elif name.startswith("float"):
            values[name] = np.array([[0.0, -0.0, 1.5], [np.nan, np.inf, -np.inf]], dtype=name)
        else:
            limits = np.iinfo(name)
            values[name] = np.array([[0, 1, 2], [3, limits.min, limits.max]], dtype=name)
    return values


def test_every_type_passes_bit_for_bit_as_raw_contents(client: triton.InferenceServerClient) -> None:
    values = _typed_values()
    inputs = []
    for name, value in values.items():
        tensor = triton.InferInput(name, value.shape, DATATYPES[name])
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    result = client.infer("types", inputs)
    for name, value in values.items():
        answer = result.as_numpy(f"{name}_out")
        assert answer.dtype == value.dtype
        assert answer.tobytes() == value.tobytes(), name


def test_typed_contents_are_answered_with_typed_contents(stub: OpenInferenceStub) -> None:
    request = pb.ModelInferRequest(model_name="two", id="7")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[4, 3])
    tensor.contents.fp32_contents.extend(range(12))
    response = stub.ModelInfer(request, timeout=TIMEOUT)
    assert not response.raw_output_contents
    twice, negative = response.outputs
    assert (twice.name, list(twice.shape), twice.datatype) == ("twice", [4, 3], "FP32")
    assert list(twice.contents.fp32_contents) == [2.0 * number for number in range(12)]
    assert list(negative.contents.fp32_contents) == [-1.0 * number for number in range(12)]


def test_only_the_outputs_asked_for_come_back(client: triton.InferenceServerClient) -> None:
    tensor = triton.InferInput("x", [4, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((4, 3), np.float32))
    result = client.infer("two", [tensor], outputs=[triton.InferRequestedOutput("negative")])
    assert [output.name for output in result.get_response().outputs] == ["negative"]
    np.testing.assert_array_equal(result.as_numpy("negative"), -np.ones((4, 3)))
    with pytest.raises(InferenceServerException, match="has no output 'cow'") as caught:
        client.infer("two", [tensor], outputs=[triton.InferRequestedOutput("cow")])
    assert _status(caught) == "StatusCode.INVALID_ARGUMENT"


def test_a_tensor_without_elements_is_a_tensor(client: triton.InferenceServerClient) -> None:
    tensor = triton.InferInput("x", [0, 3], "FP32")
    tensor.set_data_from_numpy(np.zeros((0, 3), np.float32))
    assert client.infer("nothing", [tensor]).as_numpy("twice").shape == (0, 3)


def test_not_a_number_passes_through(cluster: LocalCluster) -> None:
    image = models.random_image()
    image[0, 0, 0, 0] = np.nan
    with flexpie.Client(cluster.address, timeout=TIMEOUT) as client:
        scores = client.infer("conv", {"image": image})["scores"]
    assert np.isnan(scores[0, :, :3, :3]).all()
    assert np.isfinite(scores[0, :, 3:]).all()


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "text"),
    [
        ("picture", (1, 3, 16, 12), "FP32", "unknown input 'picture', missing input 'image'"),
        ("image", (1, 3, 12, 16), "FP32", r"got image float32\[1, 3, 12, 16\]"),
        ("image", (3, 16, 12), "FP32", r"got image float32\[3, 16, 12\]"),
        ("image", (1, 3, 16, 12), "FP64", r"got image float64\[1, 3, 16, 12\]"),
        ("image", (0, 3, 16, 12), "FP32", r"got image float32\[0, 3, 16, 12\]"),
    ],
)
def test_a_wrong_input_is_refused_with_what_is_expected(
    client: triton.InferenceServerClient, cluster: LocalCluster, name: str, shape: tuple[int, ...], datatype: str,
    text: str,
) -> None:  # fmt: skip
    dtype = {"FP32": np.float32, "FP64": np.float64}[datatype]
    tensor = triton.InferInput(name, shape, datatype)
    tensor.set_data_from_numpy(np.zeros(shape, dtype))
    with pytest.raises(InferenceServerException, match=text) as caught:
        client.infer("conv", [tensor])
    assert _status(caught) == "StatusCode.INVALID_ARGUMENT"
    with (
        flexpie.Client(cluster.address, timeout=TIMEOUT) as sdk,
        pytest.raises(FlexPieError, match=text) as own,
    ):
        sdk.infer("conv", {name: np.zeros(shape, dtype)})
    assert own.value.code.name == "INVALID_INPUT"
    assert own.value.message.endswith(" Expected: image float32[1, 3, 16, 12].")
    client.infer("conv", [_image_input(models.random_image())])


def test_contents_that_contradict_their_description_are_refused(stub: OpenInferenceStub) -> None:
    short = pb.ModelInferRequest(model_name="two", raw_input_contents=[b"\0" * 40])
    short.inputs.add(name="x", datatype="FP32", shape=[4, 3])
    unknown = pb.ModelInferRequest(model_name="two", raw_input_contents=[b"\0" * 48])
    unknown.inputs.add(name="x", datatype="FP99", shape=[4, 3])
    uneven = pb.ModelInferRequest(model_name="two", raw_input_contents=[b"\0" * 48, b""])
    uneven.inputs.add(name="x", datatype="FP32", shape=[4, 3])
    twice = pb.ModelInferRequest(model_name="two", raw_input_contents=[b"\0" * 48] * 2)
    twice.inputs.extend([uneven.inputs[0]] * 2)
    shared = pb.ModelInferRequest(model_name="two")
    shared.inputs.add(name="x", datatype="FP32", shape=[4, 3]).parameters["shared_memory_region"].string_param = "r"
    texts = {"takes 48 bytes": short, "unknown datatype": unknown, "2 raw contents": uneven, "twice": twice,
             "shared memory": shared}  # fmt: skip
    for text, request in texts.items():
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=TIMEOUT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert text in str(caught.value.details())


def test_unknown_models_and_versions_are_not_found(client: triton.InferenceServerClient) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.infer("cow", [_image_input(models.random_image())]),
        lambda: client.infer("conv", [_image_input(models.random_image())], model_version="2"),
        lambda: client.get_model_metadata("cow"),
        lambda: client.load_model("cow"),
        lambda: client.unload_model("cow"),
    )
    for call in calls:
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert _status(caught) == "StatusCode.NOT_FOUND"


def test_a_model_of_the_cluster_file_is_unloaded_and_loaded_again(client: triton.InferenceServerClient) -> None:
    index = {model.name: model.state for model in client.get_model_repository_index().models}
    assert index == {"conv": "READY", "types": "READY", "two": "READY", "nothing": "READY"}
    client.unload_model("conv")
    assert not client.is_model_ready("conv")
    index = {model.name: (model.state, model.reason) for model in client.get_model_repository_index().models}
    assert index["conv"] == ("UNAVAILABLE", "unloaded")
    with pytest.raises(InferenceServerException, match="not ready") as caught:
        client.infer("conv", [_image_input(models.random_image())])
    assert _status(caught) == "StatusCode.UNAVAILABLE"
    client.load_model("conv")
    assert client.is_model_ready("conv")
    client.infer("conv", [_image_input(models.random_image())])


def test_triton_and_flexpie_work_side_by_side_in_one_process(
    client: triton.InferenceServerClient, cluster: LocalCluster
) -> None:
    image = models.random_image()
    with flexpie.Client(cluster.address, timeout=TIMEOUT) as sdk:
        ours = sdk.infer("conv", {"image": image})["scores"]
    theirs = client.infer("conv", [_image_input(image)]).as_numpy("scores")
    assert ours.tobytes() == theirs.tobytes()
    file = descriptor_pool.Default().FindFileContainingSymbol("inference.GRPCInferenceService")
    assert file.name == "grpc_service.proto", "Triton's, not ours"


def test_health_of_server_and_models(cluster: LocalCluster) -> None:
    status = health_pb2.HealthCheckResponse
    with grpc.insecure_channel(cluster.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "conv", "inference.GRPCInferenceService", "flexpie.wire.v1.MasterService"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT).status == status.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="cow"), timeout=TIMEOUT)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service="two"), timeout=TIMEOUT)
        assert next(watch).status == status.SERVING
        with triton.InferenceServerClient(cluster.address) as client:
            client.unload_model("two")
            assert next(watch).status == status.NOT_SERVING
            client.load_model("two")
            assert next(watch).status == status.SERVING
        watch.cancel()
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="cow"), timeout=TIMEOUT)
        assert next(unknown).status == status.SERVICE_UNKNOWN
        unknown.cancel()


def test_reflection_shows_the_protocol_under_its_public_name(cluster: LocalCluster) -> None:
    with grpc.insecure_channel(cluster.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == {
            "flexpie.wire.v1.MasterService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "inference.GRPCInferenceService",
        }
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("inference.GRPCInferenceService")
        assert service.FindMethodByName("ModelInfer").input_type.full_name == "inference.ModelInferRequest"
        assert pool.FindServiceByName("flexpie.wire.v1.MasterService").FindMethodByName("Load") is not None
