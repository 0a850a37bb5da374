"""The master's process: how it starts, listens, bounds what it takes, and ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from flexpie.client import Client
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.v1 import open_inference_pb2 as pb
from tests.daemons import START_SECONDS, local_cluster, start_master, wait_until, write_cluster_file
from tests.integration import master_models as models

TIMEOUT = 30.0


def _run_master(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flexpie.cli.master_command", *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    file = write_cluster_file(tmp_path, {"a": "127.0.0.1:1"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = _run_master("--cluster", str(file), "--port", str(port))
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.splitlines() == [
        f"flexpie-master: Port {port} on 127.0.0.1 is in use by another process. "
        "Choose another --port, or 0 for any free one."
    ]


def test_a_second_master_does_not_share_the_port(tmp_path: Path) -> None:
    file = write_cluster_file(tmp_path, {"a": "127.0.0.1:1"})
    with start_master(tmp_path, file) as first:
        run = _run_master("--cluster", str(file), "--port", str(first.port))
        assert run.returncode == 1
        assert "is in use" in run.stderr


def test_a_wrong_cluster_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = write_cluster_file(tmp_path, {"a": "127.0.0.1:99999"})
    run = _run_master("--cluster", str(file), "--port", "0")
    assert run.returncode == 1
    assert f"{file}:4: devices[0].address: expected host:port with a port from 1 to 65535" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_address_for_others_needs_consent(tmp_path: Path) -> None:
    file = write_cluster_file(tmp_path, {"a": "127.0.0.1:1"})
    run = _run_master("--cluster", str(file), "--port", "0", "--host", "0.0.0.0")
    assert run.returncode == 1
    assert "--insecure" in run.stderr


def test_it_says_one_line_and_ends_in_order(tmp_path: Path) -> None:
    file = write_cluster_file(tmp_path, {"a": "127.0.0.1:1"})
    with start_master(tmp_path, file) as master:
        address = master.address
        assert master.stop() == 0
        assert master.stdout == [f"listening on {address}"]
        assert "Traceback" not in master.log


def test_a_request_over_the_limit_is_refused_with_the_limit(tmp_path: Path) -> None:
    models.two_outputs(tmp_path / "two.onnx")
    arguments = ["--max-request-bytes", "1MiB"]
    with (
        local_cluster(tmp_path, 1, "models: [{path: two.onnx}]\n", arguments) as cluster,
        Client(cluster.address, timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: client.ready("two"), "two is ready")
        for nbytes, text in ((1_200_000, "the limit is 1048576 bytes"), (20_000_000, "larger than max")):
            with pytest.raises(FlexPieError, match=text) as caught:
                client.infer("two", {"x": np.zeros(nbytes // 4, np.float32)})
            assert caught.value.code is ErrorCode.TOO_LARGE
            assert "--max-request-bytes" in caught.value.remedy
        answer = client.infer("two", {"x": np.ones((4, 3), np.float32)})
        np.testing.assert_array_equal(answer["twice"], np.full((4, 3), 2))
        request = pb.ModelInferRequest(model_name="two", raw_input_contents=[bytes(1_200_000)])
        with grpc.insecure_channel(cluster.address) as channel, pytest.raises(grpc.RpcError) as refused:
            OpenInferenceStub(channel).ModelInfer(request, timeout=TIMEOUT)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_too_many_requests_are_refused(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    more = "models: [{path: conv.onnx, scheme: InH}]\n"
    with (
        local_cluster(tmp_path, 2, more, ["--max-requests", "2"]) as cluster,
        Client(cluster.address, timeout=TIMEOUT, retry=False) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        wait_until(lambda: client.ready("conv"), "conv is ready")
        image = {"image": models.random_image()}
        cluster.workers["a"].signal(signal.SIGSTOP)
        try:
            running = [threads.submit(client.infer, "conv", image) for _ in range(2)]
            wait_until(lambda: client.status().requests_in_flight == 2, "two requests are in flight")
            with pytest.raises(FlexPieError, match="--max-requests") as caught:
                client.infer("conv", image)
            assert caught.value.code is ErrorCode.OVERLOADED
        finally:
            cluster.workers["a"].signal(signal.SIGCONT)
        for request in running:
            assert request.result(TIMEOUT)["scores"].shape == (1, 5, 16, 12)


def test_sigterm_lets_requests_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    with (
        local_cluster(tmp_path, 2, "models: [{path: conv.onnx, scheme: InH}]\n") as cluster,
        Client(cluster.address, timeout=TIMEOUT, retry=False) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        wait_until(lambda: client.ready("conv"), "conv is ready")
        image = {"image": models.random_image()}
        cluster.workers["a"].signal(signal.SIGSTOP)
        try:
            running = threads.submit(client.infer, "conv", image)
            wait_until(lambda: client.status().requests_in_flight == 1, "a request is in flight")
            cluster.master.signal(signal.SIGTERM)
            wait_until(lambda: not client.ready(), "the master is draining")
            with pytest.raises(FlexPieError) as caught:
                client.infer("conv", image)
            assert caught.value.code is ErrorCode.SHUTTING_DOWN
        finally:
            cluster.workers["a"].signal(signal.SIGCONT)
        assert running.result(TIMEOUT)["scores"].shape == (1, 5, 16, 12)
        assert cluster.master.wait() == 0


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    with (
        local_cluster(tmp_path, 2, "models: [{path: conv.onnx, scheme: InH}]\n") as cluster,
        Client(cluster.address, timeout=TIMEOUT, retry=False) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        wait_until(lambda: client.ready("conv"), "conv is ready")
        cluster.workers["a"].signal(signal.SIGSTOP)
        try:
            running = threads.submit(client.infer, "conv", {"image": models.random_image()})
            wait_until(lambda: client.status().requests_in_flight == 1, "a request is in flight")
            cluster.master.signal(signal.SIGINT)
            wait_until(lambda: not client.ready(), "the master is draining")
            cluster.master.signal(signal.SIGINT)
            assert cluster.master.wait() == 130
            with pytest.raises(FlexPieError):
                running.result(TIMEOUT)
        finally:
            cluster.workers["a"].signal(signal.SIGCONT)
