"""Many requests at once are answered by devices that take turns; the loss of one costs nobody an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from flexpie.client import Client
from flexpie.core.strategy import DATA_PARALLEL
from tests.daemons import LocalCluster, local_cluster, start_master, wait_until
from tests.integration import master_models as models

MODEL = f"models:\n- {{path: conv.onnx, scheme: {DATA_PARALLEL}}}\n"
TIMEOUT = 30.0


def _arguments(folder: Path) -> list[str]:
    """Of the master."""
    return ["--startup-grace", "30", "--standby", "--state-dir", str(folder / "state")]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    models.convolutions(tmp_path / "conv.onnx")
    with local_cluster(tmp_path, 3, MODEL, _arguments(tmp_path)) as running:
        with Client(running.address, timeout=TIMEOUT) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready")
        yield running


def _ask(client: Client, folder: Path, requests: int = 60, half_way: threading.Event | None = None) -> None:
    """Requests from six clients at once; all answers must be right."""
    image = models.random_image()
    expected = models.run_unsplit(folder / "conv.onnx", {"image": image})["scores"]

    def ask(number: int) -> None:
        if half_way is not None and number == requests // 2:
            half_way.set()
        np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(ask, range(requests)))


def test_every_device_answers_requests_of_its_own(cluster: LocalCluster, tmp_path: Path) -> None:
    with Client(cluster.address, timeout=TIMEOUT) as client:
        (segment,) = client.model("conv").segments
        assert segment.scheme == DATA_PARALLEL
        before = client.status()
        _ask(client, tmp_path)
        after = client.status()
        assert after.requests_done - before.requests_done == 60
        nbytes = models.random_image().nbytes
        assert after.scattered_bytes - before.scattered_bytes == 60 * nbytes, "nobody gets what is another's turn"
        with client.trace("conv") as traces, ThreadPoolExecutor(1) as thread:
            asking = thread.submit(_ask, client, tmp_path)
            seen = {device for _ in range(60) for device in next(traces).spans}
            asking.result(TIMEOUT)
        assert seen == {"a", "b", "c"}


def test_a_killed_device_costs_no_answer_and_is_planned_in_again(cluster: LocalCluster, tmp_path: Path) -> None:
    half_way = threading.Event()
    with Client(cluster.address, timeout=TIMEOUT) as client, ThreadPoolExecutor(1) as thread:
        asking = thread.submit(_ask, client, tmp_path, 200, half_way)
        assert half_way.wait(TIMEOUT)
        cluster.workers["b"].kill()
        asking.result(TIMEOUT)
        wait_until(lambda: client.model("conv").devices == ("a", "c"), "b is missed")
        assert client.status().requests_failed == 0
        assert cluster.master.log.count("deployment started") == 1, "nothing had to be planned"
        assert "standby started" not in cluster.master.log
        cluster.restart_worker("b")
        wait_until(lambda: client.model("conv").devices == ("a", "b", "c"), "b is planned in again")
        _ask(client, tmp_path)


def test_a_restarted_master_goes_on_with_turns(cluster: LocalCluster, tmp_path: Path) -> None:
    port = cluster.master.port
    cluster.master.kill()
    with (
        start_master(tmp_path, tmp_path / "cluster.yaml", *_arguments(tmp_path), port=port) as master,
        Client(master.address, timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: client.ready("conv"), "conv is ready")
        _ask(client, tmp_path)
        assert master.log.count("planned model=conv") == 1, "by the one before"
