"""Real workers that relay: each knows the address of its neighbours only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import flexpie_models
from flexpie import Client
from flexpie.cli.verify import compare_on
from tests.daemons import Daemon, start_master, start_worker, write_cluster_file

DEVICES = 5


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Daemon]]]:
    folder = tmp_path_factory.mktemp("relays")
    with ExitStack() as stack:
        yield folder, [stack.enter_context(start_worker(folder, f"worker-{index}")) for index in range(DEVICES)]


@pytest.mark.parametrize("topology", ["ring", "star"])
def test_split_equals_unsplit(topology: str, workers: tuple[Path, list[Daemon]]) -> None:
    folder, daemons = workers
    own = folder / topology
    own.mkdir()
    model = own / "digits.onnx"
    model.write_bytes(flexpie_models.build("digits").SerializeToString())
    addresses = {f"device-{index}": worker.address for index, worker in enumerate(daemons)}
    file = write_cluster_file(own, addresses, f"topology: {topology}\n")
    with start_master(own, file) as master, Client(master.address) as client:
        for scheme in ("OutC", "InH", "Grid2D"):
            result = compare_on(client, model, scheme, [{"image": (1, 1, 8, 8)}], runs=2)
            assert result["outputs_equal"]
            assert result["devices"] == DEVICES
