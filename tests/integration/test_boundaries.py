"""Float16 boundaries among real processes: half the bytes, answers that are off by rounding only, restarts included."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from flexpie import pipeline
from flexpie.cli.verify import compare_on
from flexpie.client import Client
from flexpie.core.boundary import Boundary
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.cluster_file import read_cluster_file
from flexpie.wire.v1 import worker_pb2, worker_pb2_grpc
from tests.daemons import LocalCluster, local_cluster, start_master, wait_until
from tests.integration import master_models as models

TIMEOUT = 60.0


def _bytes_received(cluster: LocalCluster, deployment_id: str) -> int:
    """By all workers so far, from one another and from the master."""
    total = 0
    for worker in cluster.workers.values():
        with grpc.insecure_channel(worker.address) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            status = stub.WorkerStatus(worker_pb2.WorkerStatusRequest(), timeout=TIMEOUT)
            total += sum(item.bytes_received for item in status.deployments if item.deployment_id == deployment_id)
    return total


def _error(client: Client, path: Path, name: str) -> float:
    """Largest error of an answer in relation to the largest number in it; 0 is exact."""
    image = models.random_image(3)
    expected = models.run_unsplit(path, {"image": image})["scores"]
    return float(np.abs(client.infer(name, {"image": image})["scores"] - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("topology", ["mesh", "star"])
def test_workers_exchange_half_the_bytes_and_answers_are_rounded(tmp_path: Path, topology: str) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    with ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(tmp_path, 3, f"topology: {topology}\n"))
        client = stack.enter_context(Client(cluster.address, timeout=TIMEOUT))
        received, errors = {}, {}
        for boundary in ("float32", "float16"):
            info = client.load(path, name=boundary, scheme="InH", boundary=boundary)
            assert (info.boundary, info.profiles[0].boundary) == (boundary, boundary)
            before = _bytes_received(cluster, info.deployment_id)
            errors[boundary] = _error(client, path, boundary)
            received[boundary] = _bytes_received(cluster, info.deployment_id) - before
            from_master = info.segments[0].exchange_bytes
            received[boundary] -= from_master
        assert received["float16"] * 2 == received["float32"] > 0
        assert errors["float32"] < 1e-5 < errors["float16"] < 2e-3


def test_a_plan_file_brings_its_boundary_and_excludes_another(tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    with local_cluster(tmp_path, 2) as running, Client(running.address, timeout=TIMEOUT) as client:
        cluster = read_cluster_file(tmp_path / "cluster.yaml").cluster
        model = pipeline.import_file(path)
        plan = pipeline.plan_model(model, cluster, "OutC", boundary=Boundary.FLOAT16).plan
        text = pipeline.write_plan(model, cluster, plan)
        with pytest.raises(FlexPieError, match="Both a boundary and a plan") as caught:
            client.load(path, plan=text, boundary="float16")
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
        with pytest.raises(FlexPieError, match="Unknown boundary 'fp16'"):
            client.load(path, boundary="fp16")
        assert client.load(path, plan=text).boundary == "float16"
        assert 1e-5 < _error(client, path, "conv") < 2e-3


def test_verify_tells_the_error(tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    with local_cluster(tmp_path, 2) as running, Client(running.address, timeout=TIMEOUT) as client:
        found = {item: compare_on(client, path, "InH", [{}], 2, item) for item in (None, "float16")}
        assert [result["boundary"] for result in found.values()] == ["float32", "float16"]
        assert all(result["outputs_equal"] for result in found.values())
        assert found[None]["max_rel_error"] < 1e-5 < found["float16"]["max_rel_error"] < 2e-3
        assert found["float16"]["max_abs_error"] > found["float16"]["max_rel_error"]


def test_self_checks_find_nothing_wrong_and_a_restart_goes_on(tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    served = "models: [{path: conv.onnx, scheme: InH, boundary: float16}]\nself_check: {every: 1}\n"
    options = ("--startup-grace", "30", "--no-standby", "--state-dir", str(tmp_path / "state"))
    with ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(tmp_path, 3, served, options))
        client = stack.enter_context(Client(cluster.address, timeout=TIMEOUT))
        wait_until(lambda: client.ready("conv"), "conv is ready")
        client.load(path, name="kept", scheme="InH", boundary="float16")
        assert 1e-5 < _error(client, path, "conv") < 2e-3
        wait_until(lambda: client.status().answers_checked == 1, "an answer was checked")
        assert client.status().answers_wrong == 0
        before = {name: client.model(name) for name in ("conv", "kept")}
        cluster.master.kill()
        master = stack.enter_context(start_master(tmp_path, tmp_path / "cluster.yaml", *options))
        again = stack.enter_context(Client(master.address, timeout=TIMEOUT))
        for name, info in before.items():
            wait_until(lambda name=name: again.ready(name), f"{name} is ready after a restart")  # type: ignore[misc]
            found = again.model(name)
            assert (found.boundary, found.pushed_bytes, found.deployment_id) == ("float16", 0, info.deployment_id)
            assert 1e-5 < _error(again, path, name) < 2e-3
