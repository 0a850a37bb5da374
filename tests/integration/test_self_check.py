"""A device that computes other results than the others is found among real processes, and worked around."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from flexpie.client import Client
from tests.daemons import Daemon, start_master, start_worker, wait_until, write_cluster_file
from tests.integration import master_models as models

TIMEOUT = 60.0
MORE = "self_check: {every: 3}\nmodels: [{path: conv.onnx, scheme: InH}]\n"


def _ask(client: Client, image: models.Array) -> models.Array:
    return client.infer("conv", {"image": image})["scores"]


@pytest.mark.parametrize("wrong", [True, False])
def test_a_device_that_computes_wrongly_is_found_and_left_out(tmp_path: Path, wrong: bool) -> None:
    models.convolutions(tmp_path / "conv.onnx")
    image = models.random_image()
    expected = models.run_unsplit(tmp_path / "conv.onnx", {"image": image})["scores"]
    with ExitStack() as stack:
        workers = {name: stack.enter_context(start_worker(tmp_path, name)) for name in "ab"}
        odd = Daemon("tests.integration.wrong_worker", [], tmp_path / "c.log") if wrong else start_worker(tmp_path, "c")
        workers["c"] = stack.enter_context(odd)
        file = write_cluster_file(tmp_path, {name: worker.address for name, worker in workers.items()}, MORE)
        options = ("--startup-grace", "30", "--no-standby", "--state-dir", str(tmp_path / "state"))
        master = stack.enter_context(start_master(tmp_path, file, *options))
        client = stack.enter_context(Client(master.address, timeout=TIMEOUT))
        wait_until(lambda: client.ready("conv"), "conv is ready")
        assert client.model("conv").devices == ("a", "b", "c")
        assert np.allclose(_ask(client, image), expected, atol=1e-4) is not wrong
        for _ in range(2):
            _ask(client, image)
        wait_until(lambda: client.status().answers_checked == 1, "an answer was checked")
        if not wrong:
            assert client.status().answers_wrong == 0
            assert client.model("conv").remark == ""
            return
        wait_until(lambda: client.status().answers_wrong == 1 and client.ready("conv"), "the alarm was raised")
        np.testing.assert_allclose(_ask(client, image), expected, atol=1e-4)
        model = client.model("conv")
        assert model.devices in {("a",), ("b",)}
        assert model.remark.startswith("not divided any more: an answer differed by")
        assert "c alone computes other results than a, b" in model.remark
        assert "SELF-CHECK FAILED model=conv" in master.log
        master.kill()
        master = stack.enter_context(start_master(tmp_path, file, *options))
        again = stack.enter_context(Client(master.address, timeout=TIMEOUT))
        wait_until(lambda: again.ready("conv"), "conv is ready after a restart")
        found = again.model("conv")
        assert (found.remark, found.pushed_bytes) == (model.remark, 0)
        assert found.devices in {("a",), ("b",)}
        np.testing.assert_allclose(_ask(again, image), expected, atol=1e-4)
