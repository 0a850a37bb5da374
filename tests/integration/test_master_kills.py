"""A master that is killed at any moment leaves a store that opens, and no model that only claims to be ready."""

from __future__ import annotations

import os
import random
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from flexpie.client import Client
from flexpie.core.errors import FlexPieError
from tests.daemons import start_master, start_worker, wait_until, write_cluster_file
from tests.integration import master_models as models

TIMEOUT = 60.0
KILLS = 30 if os.environ.get("FLEXPIE_LONG") == "1" else 3


def _keep_busy(client: Client, path: Path, stop: threading.Event) -> None:
    """Load, ask and unload until the master is gone."""
    image = {"image": models.random_image()}
    while not stop.is_set():
        try:
            client.load(path, name="conv", scheme="InH", timeout=TIMEOUT)
            for _ in range(5):
                client.infer("conv", image)
            client.unload("conv")
        except FlexPieError:
            try:
                client.unload("conv")
            except FlexPieError:
                continue


def test_killed_at_random_moments(tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    image = models.random_image()
    expected = models.run_unsplit(path, {"image": image})["scores"]
    moments = random.Random(4)
    arguments = ["--state-dir", str(tmp_path / "state"), "--startup-grace", "30", "--no-standby"]
    with ExitStack() as stack:
        workers = {name: stack.enter_context(start_worker(tmp_path, name)) for name in "ab"}
        file = write_cluster_file(tmp_path, {name: worker.address for name, worker in workers.items()})
        for _ in range(KILLS):
            stop = threading.Event()
            with (
                start_master(tmp_path, file, *arguments) as master,
                Client(master.address, timeout=TIMEOUT, retry=False) as client,
            ):
                known = [model.name for model in client.models()]
                if known:
                    wait_until(lambda client=client: client.ready("conv"), "what was loaded is ready again")  # type: ignore[misc]
                    np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)
                busy = threading.Thread(target=_keep_busy, args=(client, path, stop))
                busy.start()
                stop.wait(moments.uniform(0.0, 0.5))  # the moment is the matter of this test
                master.kill()
                stop.set()
                busy.join(TIMEOUT)
                assert not busy.is_alive()
                assert "Traceback" not in master.log
