"""Models of very many operators: they load, tell how far they are, and answer right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flexpie import Client
from flexpie.client import LoadProgress
from tests.daemons import local_cluster, wait_until
from tests.deep_model import CHANNELS, SIDE, deep_model
from tests.integration import master_models as models

TIMEOUT = 60.0
STAGES = ["upload", "import", "plan", "compile", "push", "build"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("nodes", "scheme"),
    [
        (500, "InH"),
        pytest.param(10_000, "auto", marks=pytest.mark.slow),
        pytest.param(10_000, "InH", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_many_operators_loads_with_progress(nodes: int, scheme: str, tmp_path: Path) -> None:
    path = deep_model(tmp_path / "deep.onnx", nodes)
    image = np.random.default_rng(1).standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    progress: list[LoadProgress] = []
    with local_cluster(tmp_path, 2) as cluster, Client(cluster.address, timeout=TIMEOUT) as client:
        wait_until(client.ready, "devices are connected")
        info = client.load(path, scheme=scheme, on_progress=progress.append)
        assert info.state == "ready"
        seen = list(dict.fromkeys(item.stage for item in progress))
        assert seen == [stage for stage in STAGES if stage in seen], "in their order"
        expected = models.run_unsplit(path, {"image": image})["tokens"]
        np.testing.assert_allclose(client.infer("deep", {"image": image})["tokens"], expected, atol=1e-4)
    if nodes == 10_000:
        assert seen == STAGES
        told = {item.stage for item in progress if item.unit == "seconds"}
        assert {"import", "plan"} <= told, "what takes long says that it goes on"
        assert sum(item.stage == "push" for item in progress) < 1000
