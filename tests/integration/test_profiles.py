"""One model, several shapes: each request is answered by the deployment of its profile, whatever happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from click.testing import CliRunner

from flexpie import Client, ErrorCode, FlexPieError
from flexpie.cli.main import main
from flexpie.client import LoadProgress
from flexpie.wire.v1 import worker_pb2, worker_pb2_grpc
from tests.daemons import LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 30.0
BATCHES = (1, 4)
PROFILES = [{"image": [batch, 3, 16, 12]} for batch in BATCHES]
MODEL = f"models:\n- {{path: conv.onnx, scheme: InH, profiles: {json.dumps(PROFILES)}}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[LocalCluster]:
    models.convolutions_of_any_batch(folder / "conv.onnx")
    with local_cluster(folder, 2, MODEL, ["--startup-grace", "30"]) as running:
        with Client(running.address, timeout=TIMEOUT) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready with both profiles")
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout=TIMEOUT) as opened:
        yield opened
        for model in opened.models():
            if model.name != "conv":
                opened.unload(model.name)


def _assert_right(client: Client, path: Path, name: str = "conv") -> None:
    for batch in BATCHES:
        image = models.random_image(batch, batch)
        expected = models.run_unsplit(path, {"image": image})["scores"]
        np.testing.assert_allclose(client.infer(name, {"image": image})["scores"], expected, atol=1e-4)


def _deployments(cluster: LocalCluster, worker: str) -> set[str]:
    with grpc.insecure_channel(cluster.workers[worker].address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        reply = stub.WorkerStatus(worker_pb2.WorkerStatusRequest(), timeout=TIMEOUT)
    return {deployment.deployment_id for deployment in reply.deployments}


def test_the_shapes_of_a_request_choose_its_profile(client: Client, folder: Path) -> None:
    _assert_right(client, folder / "conv.onnx")
    for shape in ((2, 3, 16, 12), (1, 3, 16, 13)):
        with pytest.raises(FlexPieError) as caught:
            client.infer("conv", {"image": np.zeros(shape, np.float32)})
        assert caught.value.code is ErrorCode.INVALID_INPUT
        assert caught.value.message == (
            f"Wrong input for conv: got image float32{list(shape)}. "
            "Expected one of its profiles: (image float32[1, 3, 16, 12]), or (image float32[4, 3, 16, 12])."
        )


def test_other_clients_see_open_dimensions_and_the_same_refusal(client: Client) -> None:
    with triton.InferenceServerClient(client.address) as other:
        metadata = other.get_model_metadata("conv")
        assert list(metadata.inputs[0].shape) == [-1, 3, 16, 12]
        assert list(metadata.outputs[0].shape) == [-1, 5, 16, 12]
        image = triton.InferInput("image", [2, 3, 16, 12], "FP32")
        image.set_data_from_numpy(np.zeros((2, 3, 16, 12), np.float32))
        with pytest.raises(triton.InferenceServerException, match="one of its profiles") as caught:
            other.infer("conv", [image])
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_every_profile_has_a_plan_and_memory_of_its_own(client: Client, cluster: LocalCluster) -> None:
    info = client.model("conv")
    assert [profile.inputs[0].shape for profile in info.profiles] == [(batch, 3, 16, 12) for batch in BATCHES]
    assert [profile.outputs[0].shape for profile in info.profiles] == [(batch, 5, 16, 12) for batch in BATCHES]
    assert len({profile.deployment_id for profile in info.profiles}) == 2
    assert info.deployment_id == info.profiles[0].deployment_id
    assert info.pushed_bytes == sum(profile.pushed_bytes for profile in info.profiles)
    for worker in "ab":
        assert _deployments(cluster, worker) == {profile.deployment_id for profile in info.profiles}
        single = [profile.resident_bytes[worker] for profile in info.profiles]
        assert min(single) > 0
        assert info.resident_bytes[worker] == sum(single)


def test_a_lost_device_costs_no_profile(client: Client, cluster: LocalCluster, folder: Path) -> None:
    cluster.workers["b"].kill()
    wait_until(lambda: client.status().devices[1].state == "unreachable", "the loss is noticed")
    _assert_right(client, folder / "conv.onnx")
    assert [profile.devices for profile in client.model("conv").profiles] == [("a",), ("a",)]
    cluster.restart_worker("b")
    wait_until(
        lambda: all(profile.devices == ("a", "b") for profile in client.model("conv").profiles), "b is planned in again"
    )
    _assert_right(client, folder / "conv.onnx")


def test_profiles_are_uploaded_once_and_unloaded_together(
    client: Client, cluster: LocalCluster, tmp_path: Path
) -> None:
    path = models.convolutions_of_any_batch(tmp_path / "other.onnx", seed=2)
    before = {worker: _deployments(cluster, worker) for worker in "ab"}
    progress: list[LoadProgress] = []
    info = client.load(path, scheme="InW", profiles=PROFILES, on_progress=progress.append)
    assert info.state == "ready"
    assert progress[-1] == LoadProgress("build", 2, 2, "devices", 1, 2)
    told = [(item.profile, item.stage) for item in progress if item.stage != "upload"]
    assert told == sorted(told, key=lambda item: item[0])
    assert {0, 1} == {item.profile for item in progress}
    first, second = info.profiles
    assert second.pushed_bytes < first.pushed_bytes, "the weights are there already"
    _assert_right(client, path, "other")
    client.unload("other")
    wait_until(lambda: {worker: _deployments(cluster, worker) for worker in "ab"} == before, "nothing of it is left")


@pytest.mark.parametrize(
    ("profiles", "code", "text"),
    [
        ([PROFILES[0], {"image": [4, 3, 16]}], ErrorCode.INVALID_SHAPE, "Profile image=4x3x16 of other: The shape"),
        ([PROFILES[0], {}], ErrorCode.INVALID_SHAPE, r"Profile \(no shapes\) of other: .* open dimensions"),
        ([PROFILES[0], PROFILES[0]], ErrorCode.INVALID_SHAPE, "give its inputs the same shapes"),
        ([{"image": [n, 3, 16, 12]} for n in range(1, 18)], ErrorCode.INVALID_ARGUMENT, "17 profiles .* at most 16"),
    ],
)
def test_wrong_profiles_are_refused_and_leave_nothing(
    client: Client, tmp_path: Path, profiles: list[dict[str, list[int]]], code: ErrorCode, text: str
) -> None:
    path = models.convolutions_of_any_batch(tmp_path / "other.onnx")
    with pytest.raises(FlexPieError, match=text) as caught:
        client.load(path, profiles=profiles)
    assert caught.value.code is code
    assert [model.name for model in client.models()] == ["conv"]


def test_each_profile_has_a_copy_of_the_weights_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = models.large_weight(tmp_path / "large.onnx")
    profiles = [{"x": [batch, 1024]} for batch in BATCHES]
    with (
        local_cluster(tmp_path, 1, worker_arguments=["--memory", "7MiB"]) as small,
        Client(small.address, timeout=TIMEOUT) as client,
    ):
        wait_until(client.ready, "the device is connected")
        for batch in BATCHES:
            client.load(path, input_shapes={"x": [batch, 1024]})
            client.unload("large")
        with pytest.raises(FlexPieError, match="Profile x=4x1024 of large: The model does not fit") as caught:
            client.load(path, profiles=profiles)
        assert caught.value.code is ErrorCode.OUT_OF_MEMORY
        assert client.models() == []
        wait_until(lambda: not _deployments(small, "a"), "the first profile is gone too")


def test_the_commands_know_profiles(client: Client, tmp_path: Path) -> None:
    path = models.convolutions_of_any_batch(tmp_path / "other.onnx")
    chosen = [word for batch in BATCHES for word in ("--profile", f"image={batch}x3x16x12")]
    where = ["--master", client.address]
    loaded = CliRunner().invoke(main, ["load", str(path), *where, *chosen, "--scheme", "InH", "--json"])
    assert loaded.exit_code == 0, loaded.stderr
    summary = json.loads(loaded.stdout)
    assert [profile["inputs"] for profile in summary["profiles"]] == PROFILES
    _assert_right(client, path, "other")
    status = CliRunner().invoke(main, ["status", *where])
    assert "  model  other            ready: 2 profiles, up to " in status.stdout
    assert "    image=4x3x16x12  ready on a, b, " in status.stdout
    cluster_file = tmp_path / "cluster.yaml"
    cluster_file.write_text("devices:\n- {name: a, address: 'x:1'}\n- {name: b, address: 'x:2'}\n")
    planned = CliRunner().invoke(main, ["plan", str(path), "--cluster", str(cluster_file), *chosen, "--json"])
    assert planned.exit_code == 0, planned.stderr
    assert [plan["inputs"] for plan in json.loads(planned.stdout)["profiles"]] == PROFILES


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--profile", "image=1x3,4"], "'image=1x3,4' is no profile; write it like ids=1x64,mask=1x64"),
        (["--profile", "image=1x3,mask=1y4"], "'mask=1y4' is not a shape"),
        (["--profile", "image=1x3,image=1x4"], "gives image twice"),
        (["--profile", "image=1x3", "--profile", "image=1x3"], "two profiles are the same"),
        (["--profile", "image=1x3", "--shape", "image=1x3"], "give either --shape or --profile"),
    ],
)
def test_mistakes_on_the_command_line_are_told_before_anything_happens(words: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["load", "absent.onnx", *words])
    assert result.exit_code == 2
    assert text in result.stderr
