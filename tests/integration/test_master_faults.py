"""What goes wrong while a system runs: each time one clear error within its deadline, and the next request succeeds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from flexpie import pipeline
from flexpie.client import Client
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Send
from flexpie.wire.limits import PROTOCOL
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.v1 import open_inference_pb2 as pb
from flexpie.wire.v1 import worker_pb2, worker_pb2_grpc
from tests.daemons import LocalCluster, local_cluster, start_master, wait_until, write_cluster_file
from tests.integration import master_models as models

TIMEOUT = 30.0
MODEL = "models:\n- {path: conv.onnx, scheme: InH}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    models.convolutions(tmp_path / "conv.onnx")
    with local_cluster(tmp_path, 3, MODEL, ["--startup-grace", "30"]) as running:
        with Client(running.address, timeout=TIMEOUT) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready")
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout=TIMEOUT) as opened:
        yield opened


def _assert_right(client: Client, folder: Path, seed: int = 0) -> None:
    image = models.random_image(seed)
    expected = models.run_unsplit(folder / "conv.onnx", {"image": image})["scores"]
    np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)


def _states(client: Client) -> dict[str, str]:
    return {device.name: device.state for device in client.status().devices}


def test_a_killed_worker_is_planned_around_and_planned_in_again(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    assert client.model("conv").devices == ("a", "b", "c")
    cluster.workers["b"].kill()
    _assert_right(client, tmp_path)
    assert client.model("conv").devices == ("a", "c")
    assert _states(client) == {"a": "connected", "b": "unreachable", "c": "connected"}
    cluster.restart_worker("b")
    wait_until(lambda: client.model("conv").devices == ("a", "b", "c"), "b is planned in again")
    _assert_right(client, tmp_path)
    assert _states(client)["b"] == "connected"


def test_requests_on_their_way_when_a_worker_dies_are_answered_by_the_others(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    image = models.random_image()
    expected = models.run_unsplit(tmp_path / "conv.onnx", {"image": image})["scores"]
    killed = threading.Event()

    def ask(number: int) -> None:
        if number == 20:
            cluster.workers["c"].kill()
            killed.set()
        np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(60)))
    assert killed.is_set()
    status = client.status()
    assert (status.requests_in_flight, status.requests_failed) == (0, 0)


def test_what_was_prepared_for_the_loss_of_a_device_serves_at_once(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    with (
        local_cluster(tmp_path, 3, MODEL, ["--startup-grace", "30", "--standby"]) as cluster,
        Client(cluster.address, timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: cluster.master.log.count("standby ready") == 3, "every loss is prepared for")
        assert client.model("conv").devices == ("a", "b", "c")
        cluster.workers["b"].kill()
        _assert_right(client, tmp_path)
        assert client.model("conv").devices == ("a", "c")
        assert cluster.master.log.count("standby serves") == 1
        assert cluster.master.log.count("deployment started") == 1, "it was not planned anew"
        cluster.restart_worker("b")
        wait_until(lambda: client.model("conv").devices == ("a", "b", "c"), "b is planned in again")
        wait_until(lambda: cluster.master.log.count("standby ready") >= 6, "every loss is prepared for again")
        cluster.workers["a"].kill()
        _assert_right(client, tmp_path)
        cluster.workers["c"].kill()
        _assert_right(client, tmp_path)
        assert client.model("conv").devices == ("b",)
        assert client.status().requests_failed == 0


def test_a_worker_that_stopped_answering_costs_a_request_its_deadline_and_no_more(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    cluster.workers["a"].signal(signal.SIGSTOP)
    try:
        with pytest.raises(FlexPieError) as caught:
            client.infer("conv", {"image": models.random_image()}, timeout=1.0)
        assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
        wait_until(lambda: client.status().requests_in_flight == 0, "the master forgot the request")
    finally:
        cluster.workers["a"].signal(signal.SIGCONT)
    _assert_right(client, tmp_path)


def test_a_request_without_a_deadline_gets_the_masters(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    image = models.random_image()
    request = pb.ModelInferRequest(model_name="conv", raw_input_contents=[image.tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=image.shape)
    with (
        local_cluster(tmp_path, 2, MODEL, ["--request-timeout", "1"]) as cluster,
        Client(cluster.address, timeout=TIMEOUT) as client,
        grpc.insecure_channel(cluster.address) as channel,
    ):
        wait_until(lambda: client.ready("conv"), "conv is ready")
        cluster.workers["b"].signal(signal.SIGSTOP)
        try:
            with pytest.raises(grpc.RpcError) as caught:
                OpenInferenceStub(channel).ModelInfer(request)
        finally:
            cluster.workers["b"].signal(signal.SIGCONT)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # From the master, or from the other worker, which has the same deadline.
        told = ("The request to conv was not answered within 1 s", "The deadline passed on a, which was waiting for b.")
        assert str(caught.value.details()).startswith(told)
        _assert_right(client, tmp_path)


def test_a_worker_that_never_answers_again_is_lost_after_some_heartbeats(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    with (
        local_cluster(tmp_path, 3, MODEL, ["--startup-grace", "30", "--dead-after", "2"]) as cluster,
        Client(cluster.address, timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: client.ready("conv"), "conv is ready")
        cluster.workers["c"].signal(signal.SIGSTOP)
        try:
            _assert_right(client, tmp_path)  # on the others, as soon as it counts as lost
            assert "c" not in client.model("conv").devices
            assert "did not answer for 2 s" in cluster.master.log
        finally:
            cluster.workers["c"].signal(signal.SIGCONT)
        wait_until(lambda: client.model("conv").devices == ("a", "b", "c"), "c is planned in again")
        _assert_right(client, tmp_path)


def test_only_needed_regions_and_outputs_go_through_the_master(client: Client, tmp_path: Path) -> None:
    requests = 5
    before = client.status()
    for seed in range(requests):
        _assert_right(client, tmp_path, seed)
    after = client.status()
    assert after.requests_done - before.requests_done == requests
    devices = tuple(Device(name, f"{name}:1") for name in "abc")
    model = pipeline.import_file(tmp_path / "conv.onnx")
    plan = pipeline.plan_model(model, Cluster(devices, Link(10e9 / 8, 50e-6)), "InH").plan
    program = pipeline.compile_plan(model, plan).master
    parts = [part for step in program.steps if isinstance(step, Send) for part in step.parts]
    needed = sum(part.region.size for part in parts) * 4
    row = 3 * 12 * 4
    assert needed == (16 + 4) * row, "each border is needed on both sides"
    assert after.scattered_bytes - before.scattered_bytes == requests * needed
    assert after.gathered_bytes - before.gathered_bytes == requests * 5 * 16 * 12 * 4


def test_a_device_that_is_not_there_is_reported_and_planned_around(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    with local_cluster(tmp_path, 1) as first:
        devices = {"here": first.workers["a"].address, "gone": "127.0.0.1:1"}
        folder = tmp_path / "second"
        folder.mkdir()
        file = write_cluster_file(folder, devices, "models: [{path: ../conv.onnx, scheme: InH}]\n")
        with start_master(folder, file, "--startup-grace", "0.5") as master, Client(master.address) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready on the device that is there")
            assert client.model("conv").devices == ("here",)
            _, gone = client.status().devices
            assert gone.state == "unreachable"
            assert "127.0.0.1:1" in gone.reason
            _assert_right(client, tmp_path)
            assert master.log.count("device unreachable device=gone") == 1


class _OtherVersion(worker_pb2_grpc.WorkerServiceServicer):
    def Handshake(
        self, request: worker_pb2.HandshakeRequest, context: grpc.ServicerContext
    ) -> worker_pb2.HandshakeReply:
        return worker_pb2.HandshakeReply(version="9.9.9", protocol=PROTOCOL + 1)


def test_a_worker_of_another_version_is_refused_with_a_reason(tmp_path: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(_OtherVersion(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        file = write_cluster_file(tmp_path, {"old": f"127.0.0.1:{port}"})
        with start_master(tmp_path, file) as master, Client(master.address) as client:
            wait_until(lambda: _states(client) == {"old": "refused"}, "the worker is refused")
            (device,) = client.status().devices
            assert "runs FlexPie 9.9.9 with protocol" in device.reason
            assert not client.ready()
    finally:
        server.stop(None).wait()
