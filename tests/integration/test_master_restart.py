"""A master that is killed and comes back: the same models, ready without planning and without a push."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from flexpie.client import Client
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.worker.deployment import Limits
from tests.daemons import Daemon, start_master, start_worker, wait_until, write_cluster_file
from tests.integration import master_models as models

TIMEOUT = 60.0


class Site:
    """Two workers, and a master with a state folder that is started again and again."""

    def __init__(self, folder: Path, stack: ExitStack, more: str = "") -> None:
        self.folder = folder
        self.workers = {name: stack.enter_context(start_worker(folder, name)) for name in "ab"}
        self.cluster = write_cluster_file(folder, {name: item.address for name, item in self.workers.items()}, more)

    @contextmanager
    def master(self, port: int = 0) -> Iterator[tuple[Daemon, Client]]:
        """A run of the master."""
        arguments = ["--state-dir", str(self.folder / "state"), "--startup-grace", "30"]
        with (
            start_master(self.folder, self.cluster, *arguments, port=port) as master,
            Client(master.address, timeout=TIMEOUT) as client,
        ):
            yield master, client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    models.convolutions(tmp_path / "conv.onnx")
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def _deployments(worker: Daemon, what: str) -> set[str]:
    """Those that the worker's log says to be ready, or freed."""
    return set(re.findall(rf"deployment {what} deployment=(\S+)", worker.log))


def _assert_right(client: Client, folder: Path) -> None:
    image = models.random_image()
    expected = models.run_unsplit(folder / "conv.onnx", {"image": image})["scores"]
    np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)


def test_a_killed_master_goes_on_with_what_its_workers_have(site: Site) -> None:
    with site.master() as (master, client):
        loaded = client.load(site.folder / "conv.onnx", scheme="InH")
        _assert_right(client, site.folder)
        before = master.log
        master.kill()
    with site.master() as (master, client):
        wait_until(lambda: client.ready("conv"), "conv is ready again")
        _assert_right(client, site.folder)
        model = client.model("conv")
        assert model.deployment_id == loaded.deployment_id
        assert model.pushed_bytes == 0
        assert (model.devices, model.segments, model.inputs) == (loaded.devices, loaded.segments, loaded.inputs)
        wait_until(lambda: "plan read again model=conv" in master.log, "its plan is watched for drift")
        assert f"planned model=conv deployment={model.deployment_id}" not in master.log.removeprefix(before)
        master.kill()
    assert "deployment freed" not in site.workers["a"].log, "the worker built it again"


def test_a_model_in_batches_stays_one(site: Site) -> None:
    models.convolutions_of_any_batch(site.folder / "conv.onnx")
    image = models.random_image()
    with site.master() as (master, client):
        shapes = {"image": image.shape}
        loaded = client.load(site.folder / "conv.onnx", input_shapes=shapes, max_batch=2, batch_wait=10.0)
        master.kill()
    with site.master() as (_, client):
        wait_until(lambda: client.ready("conv"), "conv is ready again")
        found = client.model("conv").profiles
        assert [profile.deployment_id for profile in found] == [profile.deployment_id for profile in loaded.profiles]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda _: _assert_right(client, site.folder), range(2)))
        assert client.status().batched_requests == 2


def test_clients_notice_nothing_but_the_time_it_takes(site: Site) -> None:
    image = {"image": models.random_image()}
    with site.master() as (master, client):
        client.load(site.folder / "conv.onnx", scheme="InH")
        port, expected = master.port, client.infer("conv", image)
        asked = threading.Semaphore(0)

        def ask(_: int) -> None:
            asked.release()
            np.testing.assert_allclose(client.infer("conv", image)["scores"], expected["scores"], atol=1e-4)

        with ThreadPoolExecutor(3) as threads:
            running = [threads.submit(ask, number) for number in range(30)]
            for _ in range(10):
                asked.acquire()
            master.kill()
            with site.master(port) as (_, again):
                for request in running:
                    request.result(TIMEOUT)
                assert again.model("conv").pushed_bytes == 0
                assert again.status().requests_failed == 0


def test_a_restarted_worker_builds_it_again_from_its_store(site: Site) -> None:
    with site.master() as (master, client):
        loaded = client.load(site.folder / "conv.onnx", scheme="InH")
        master.kill()
    port = site.workers["b"].port
    site.workers["b"].kill()
    with start_worker(site.folder, "b", port=port), site.master() as (master, client):
        wait_until(lambda: client.ready("conv"), "conv is ready again")
        _assert_right(client, site.folder)
        model = client.model("conv")
        assert (model.deployment_id, model.pushed_bytes) == (loaded.deployment_id, 0)


def test_workers_that_lost_everything_get_it_again(site: Site) -> None:
    with site.master() as (master, client):
        loaded = client.load(site.folder / "conv.onnx", scheme="InH")
        master.kill()
    port = site.workers["b"].port
    site.workers["b"].kill()
    for blob in (site.folder / "b-state" / "blobs").iterdir():
        blob.unlink()
    with start_worker(site.folder, "b", port=port), site.master() as (master, client):
        wait_until(lambda: client.ready("conv"), "conv is ready again")
        _assert_right(client, site.folder)
        model = client.model("conv")
        assert model.deployment_id != loaded.deployment_id
        assert model.pushed_bytes > 0


def test_a_model_that_was_unloaded_stays_away(site: Site) -> None:
    with site.master() as (master, client):
        client.load(site.folder / "conv.onnx")
        client.unload("conv")
        master.kill()
    with site.master() as (master, client):
        with pytest.raises(FlexPieError) as caught:
            client.model("conv")
        assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
    assert list((site.folder / "state" / "models").iterdir()) == []


def test_an_orderly_end_is_survived_too(site: Site) -> None:
    with site.master() as (master, client):
        client.load(site.folder / "conv.onnx", name="other")
        client.load(site.folder / "conv.onnx")
        client.unload("other")
        assert master.stop() == 0
    with site.master() as (_, client):
        wait_until(lambda: client.ready("conv"), "conv is ready again")
        _assert_right(client, site.folder)
        assert client.model("conv").pushed_bytes == 0


def test_another_cluster_is_planned_anew(site: Site) -> None:
    with site.master() as (master, client):
        client.load(site.folder / "conv.onnx")
        master.kill()
    addresses = {"a": site.workers["a"].address}
    site.cluster = write_cluster_file(site.folder, addresses)
    with site.master() as (_, client):
        wait_until(lambda: client.ready("conv"), "conv is ready on a alone")
        _assert_right(client, site.folder)
        assert client.model("conv").devices == ("a",)


def test_a_model_of_the_cluster_file_is_not_planned_again(tmp_path: Path) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    with ExitStack() as stack:
        site = Site(tmp_path, stack, "models:\n- {path: conv.onnx, scheme: InH}\n")
        with site.master() as (master, client):
            wait_until(lambda: client.ready("conv"), "conv is ready")
            first = client.model("conv").deployment_id
            assert master.stop() == 0  # what was ready is on the disk then
        with site.master() as (master, client):
            wait_until(lambda: client.ready("conv"), "conv is ready again")
            assert client.model("conv").deployment_id == first
            master.kill()
        models.convolutions(tmp_path / "conv.onnx", seed=2)
        with site.master() as (master, client):
            wait_until(lambda: client.ready("conv"), "conv is ready again")
            assert client.model("conv").deployment_id != first, "its file has changed"
            _assert_right(client, tmp_path)


def test_a_store_that_cannot_be_written_fails_what_needs_it_and_nothing_else(site: Site) -> None:
    path = site.folder / "conv.onnx"
    with site.master() as (master, client):
        client.load(path)
        with closing(sqlite3.connect(site.folder / "state" / "master.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for call in (lambda: client.load(path, name="new", scheme="InW"), lambda: client.unload("conv")):
                with pytest.raises(FlexPieError, match="database is locked") as caught:
                    call()
                assert caught.value.code is ErrorCode.INVALID_STATE
            assert [model.name for model in client.models()] == ["conv"], "what failed to load is gone"
            _assert_right(client, site.folder)
        client.load(path, name="new")
        client.unload("conv")
        assert "Traceback" not in master.log


def test_a_damaged_store_is_refused_and_left_alone(site: Site) -> None:
    store = site.folder / "state" / "master.db"
    store.parent.mkdir()
    store.write_bytes(b"not a database" * 100)
    with start_master(site.folder, site.cluster, "--state-dir", str(store.parent)) as master:
        assert master.wait() == 1
        assert "Traceback" not in master.log
        assert f"The store {store} cannot be used: file is not a database." in master.log
    assert store.read_bytes() == b"not a database" * 100


def test_a_master_leaves_nothing_behind_that_was_unloaded_just_before_it_ended(site: Site) -> None:
    with site.master() as (master, client):
        client.load(site.folder / "conv.onnx", scheme="InH")
        client.unload("conv")
        assert master.stop() == 0
        assert "WARNING" not in master.log
    for worker in site.workers.values():
        assert _deployments(worker, "ready")

    def freed() -> bool:
        return all(_deployments(item, "freed") == _deployments(item, "ready") for item in site.workers.values())

    wait_until(freed, "all is freed, long before workers give up waiting for the master", Limits().lease_seconds / 3)


def test_workers_that_end_with_their_master_cause_no_warning(site: Site) -> None:
    with site.master() as (master, client):
        client.load(site.folder / "conv.onnx", scheme="InH")
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(Daemon.stop, (master, *site.workers.values())))
        assert "not removed" not in master.log
