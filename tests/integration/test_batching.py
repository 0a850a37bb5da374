"""Requests that come together are run together, and each gets its own answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from flexpie import Client, ErrorCode, FlexPieError
from flexpie.cli.main import main
from tests.daemons import LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 60.0
CLIENTS = 8
ROUNDS = 3
BATCH = 4
MODEL = (
    "models:\n- {path: conv.onnx, scheme: InH, input_shapes: {image: [1, 3, 16, 12]}, "
    f"batching: {{max: {BATCH}, wait: 10 s}}}}\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[LocalCluster]:
    models.convolutions_of_any_batch(folder / "conv.onnx")
    with local_cluster(folder, 2, MODEL, ["--startup-grace", "30"]) as running:
        with Client(running.address, timeout=TIMEOUT) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready with its batches")
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout=TIMEOUT) as opened:
        yield opened


def _assert_right(client: Client, path: Path, seed: int, timeout: float = TIMEOUT, name: str = "conv") -> None:
    image = models.random_image(seed)
    expected = models.run_unsplit(path, {"image": image})["scores"]
    found = client.infer(name, {"image": image}, timeout=timeout)["scores"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_requests_of_several_clients_share_runs(cluster: LocalCluster, client: Client, folder: Path) -> None:
    assert [profile.inputs[0].shape[0] for profile in client.model("conv").profiles] == [1, 2, 4]
    before = client.status()
    clients = [Client(cluster.address, timeout=TIMEOUT) for _ in range(CLIENTS)]
    try:
        with ThreadPoolExecutor(CLIENTS) as threads:
            for number in range(ROUNDS):  # nobody waits for long: eight requests are two full batches
                seeds = range(number * CLIENTS, (number + 1) * CLIENTS)
                path = [folder / "conv.onnx"] * CLIENTS
                list(threads.map(_assert_right, clients, path, seeds))
    finally:
        for each in clients:
            each.close()
    after = client.status()
    assert after.batches - before.batches == ROUNDS * CLIENTS // BATCH
    assert after.batched_requests - before.batched_requests == ROUNDS * CLIENTS
    assert after.requests_done - before.requests_done == ROUNDS * CLIENTS
    assert after.requests_in_flight == 0


def test_a_request_that_has_no_time_to_wait_is_run_alone(client: Client, folder: Path) -> None:
    before = client.status().batches
    _assert_right(client, folder / "conv.onnx", 1, timeout=9.0)
    assert client.status().batches == before


def test_a_batch_that_a_client_made_is_a_request_like_any_other(client: Client, folder: Path) -> None:
    image = models.random_image(3, BATCH)
    expected = models.run_unsplit(folder / "conv.onnx", {"image": image})["scores"]
    found = client.infer("conv", {"image": image}, timeout=9.0)["scores"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_command_loads_a_model_in_batches(client: Client, tmp_path: Path) -> None:
    path = models.convolutions_of_any_batch(tmp_path / "other.onnx", seed=2)
    words = ["--shape", "image=1x3x16x12", "--in-flight", "1", "--max-batch", "3", "--batch-wait", "2.5"]
    loaded = CliRunner().invoke(main, ["load", str(path), "--master", client.address, *words])
    assert loaded.exit_code == 0, loaded.stderr
    try:
        assert [profile.inputs[0].shape[0] for profile in client.model("other").profiles] == [1, 2]
        _assert_right(client, path, 5, name="other")
    finally:
        client.unload("other")
    status = CliRunner().invoke(main, ["status", "--master", client.address])
    found = client.status()
    assert f"  batched: {found.batched_requests} requests in {found.batches} run" in status.stdout


def _mixing(path: Path) -> Path:
    """`x` [batch, 4] → `kept`, and `mixed`, which divides by the sum over the batch."""
    value = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["kept"]),
            helper.make_node("Softmax", ["x"], ["mixed"], axis=0),
        ],
        "mixing",
        [helper.make_tensor_value_info("x", value, ("batch", 4))],
        [helper.make_tensor_value_info(name, value, ("batch", 4)) for name in ("kept", "mixed")],
    )
    return models.save(graph, path)


def _summing(path: Path) -> Path:
    """`x` [batch, 4] → `sum` [1, 4], over the batch."""
    value = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["sum"])],
        "summing",
        [helper.make_tensor_value_info("x", value, ("batch", 4))],
        [helper.make_tensor_value_info("sum", value, (1, 4))],
        [helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [0])],
    )
    return models.save(graph, path)


def test_a_model_that_mixes_its_batch_is_refused(client: Client, tmp_path: Path) -> None:
    path = _mixing(tmp_path / "mixing.onnx")
    with pytest.raises(FlexPieError, match="its output mixed for a batch of 2 differs by") as caught:
        client.load(path, input_shapes={"x": (1, 4)}, max_batch=2)
    assert caught.value.code is ErrorCode.UNSUPPORTED_MODEL
    assert [model.name for model in client.models()] == ["conv"]


def test_a_model_without_a_batch_axis_is_refused(client: Client, tmp_path: Path) -> None:
    path = _summing(tmp_path / "summing.onnx")
    with pytest.raises(FlexPieError, match=r"the output sum is \[1, 4\] for one request and \[1, 4\] for 2") as caught:
        client.load(path, input_shapes={"x": (1, 4)}, max_batch=2)
    assert caught.value.code is ErrorCode.INVALID_SHAPE
    with pytest.raises(FlexPieError, match="that begin with 1") as caught:
        client.load(path, input_shapes={"x": (3, 4)}, max_batch=2)
    assert caught.value.code is ErrorCode.INVALID_SHAPE
    for wrong in ({"max_batch": 0}, {"max_batch": 1000}, {"max_batch": 2, "batch_wait": 99.0}, {"in_flight": -1}):
        with pytest.raises(FlexPieError) as caught:
            client.load(path, input_shapes={"x": (1, 4)}, **wrong)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
