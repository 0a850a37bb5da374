"""A Loop that never ends costs its own request, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flexpie import AsyncClient, Client, ErrorCode, FlexPieError
from tests.daemons import LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 30.0
X = np.arange(4, dtype=np.float32)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("cluster"), 1) as running:
        with Client(running.address, timeout=TIMEOUT) as client:
            wait_until(client.ready, "the device is connected")
        yield running


@pytest.fixture
def client(cluster: LocalCluster, tmp_path: Path) -> Iterator[Client]:
    """A client with the model `loop` that runs for ever when `go` is true."""
    with Client(cluster.address, timeout=TIMEOUT) as opened:
        opened.load(models.endless_loop(tmp_path / "loop.onnx"))
        yield opened
        for model in opened.models():
            opened.unload(model.name)


def _feeds(go: bool) -> dict[str, npt.NDArray[Any]]:
    return {"x": X, "go": np.array(go)}


def _assert_works(client: Client) -> None:
    """The only thread of the only worker that computes is free."""
    np.testing.assert_array_equal(client.infer("loop", _feeds(False))["y"], X)


def test_its_deadline_ends_it(client: Client) -> None:
    _assert_works(client)
    with pytest.raises(FlexPieError) as caught:
        client.infer("loop", _feeds(True), timeout=0.5)
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
    _assert_works(client)


def test_its_client_ends_it(client: Client, cluster: LocalCluster) -> None:
    async def give_up() -> None:
        async with AsyncClient(cluster.address) as twin:
            call = asyncio.create_task(twin.infer("loop", _feeds(True), timeout=TIMEOUT))
            while (await twin.status()).requests_in_flight == 0:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(asyncio.wait_for(give_up(), TIMEOUT))
    _assert_works(client)


def test_unloading_its_model_ends_it_before_anything_was_asked(client: Client, cluster: LocalCluster) -> None:
    """Workers warm a model with zeros: this one never ends on them."""
    path = models.endless_loop(cluster.folder / "restless.onnx", ends_on=True)

    async def give_up() -> None:
        async with AsyncClient(cluster.address) as twin:
            building = asyncio.Event()
            load = asyncio.create_task(
                twin.load(path, on_progress=lambda progress: building.set() if progress.stage == "build" else None)
            )
            await building.wait()
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load

    asyncio.run(asyncio.wait_for(give_up(), TIMEOUT))
    wait_until(lambda: [model.name for model in client.models()] == ["loop"], "the other model is gone")
    client.unload("loop")
    client.load(models.endless_loop(cluster.folder / "loop.onnx"))
    _assert_works(client)


def test_a_worker_that_is_asked_to_end_ends_it(tmp_path: Path) -> None:
    with (
        local_cluster(tmp_path, 1, worker_arguments=["--drain-seconds", "0.1"]) as running,
        Client(running.address, timeout=TIMEOUT) as client,
        ThreadPoolExecutor(1) as beside,
    ):
        wait_until(client.ready, "the device is connected")
        client.load(models.endless_loop(tmp_path / "loop.onnx"))
        call = beside.submit(client.infer, "loop", _feeds(True))
        wait_until(lambda: client.status().requests_in_flight == 1, "the request is on its way")
        assert running.workers["a"].stop() == 0
        assert call.exception(TIMEOUT) is not None
