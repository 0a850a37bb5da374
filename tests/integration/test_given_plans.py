"""A plan that was given is deployed, gives way when a device of it is lost, and comes back with the device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flexpie import pipeline
from flexpie.client import Client
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import IN_H, single
from flexpie.master.cluster_file import read_cluster_file
from tests.daemons import LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 30.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    models.convolutions(tmp_path / "conv.onnx")
    with local_cluster(tmp_path, 3, "", ["--startup-grace", "30"]) as running:
        yield running


def _plan_file(folder: Path) -> str:
    """Rows on a and c, but for the last layer, which is b's."""
    cluster = read_cluster_file(folder / "cluster.yaml").cluster
    model = pipeline.import_file(folder / "conv.onnx")
    names, last = tuple(device.name for device in cluster.devices), len(model.graph.layers) - 1
    segments = (Segment(0, last, IN_H, (1.0, 0.0, 2.0)), Segment(last, last + 1, single(1), (0.0, 1.0, 0.0)))
    return pipeline.write_plan(model, cluster, Plan(model.graph.signature, names, segments))


def test_a_given_plan_is_run_as_it_is_and_replaced_only_while_a_device_is_lost(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    image = models.random_image()
    expected = models.run_unsplit(tmp_path / "conv.onnx", {"image": image})["scores"]
    with Client(cluster.address, timeout=TIMEOUT) as client:
        info = client.load(tmp_path / "conv.onnx", plan=_plan_file(tmp_path))
        assert [(segment.scheme, segment.shares) for segment in info.segments] == [
            ("InH", (1.0, 0.0, 2.0)),
            ("Single(1)", (0.0, 1.0, 0.0)),
        ]
        assert info.remark == ""
        np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)
        cluster.workers["b"].kill()
        wait_until(lambda: client.model("conv").remark != "", "the loss of b is told")
        assert client.model("conv").remark == "planned anew: the plan that was given needs b"
        np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)
        cluster.restart_worker("b")
        wait_until(lambda: client.model("conv").remark == "", "the given plan is back")
        assert client.model("conv").devices == ("a", "b", "c")
        np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)


def test_a_plan_for_another_model_is_refused_and_leaves_nothing_behind(cluster: LocalCluster, tmp_path: Path) -> None:
    content = json.loads(_plan_file(tmp_path))
    content["model"]["signature"] = "0" * 64
    with Client(cluster.address, timeout=TIMEOUT) as client:
        with pytest.raises(FlexPieError, match="it was made for another model") as caught:
            client.load(tmp_path / "conv.onnx", plan=json.dumps(content))
        assert caught.value.code is ErrorCode.INVALID_PLAN
        assert client.models() == []


def test_a_scheme_and_a_plan_exclude_one_another(cluster: LocalCluster, tmp_path: Path) -> None:
    with (
        Client(cluster.address, timeout=TIMEOUT) as client,
        pytest.raises(FlexPieError, match="Both a scheme and a plan") as caught,
    ):
        client.load(tmp_path / "conv.onnx", scheme="InH", plan=_plan_file(tmp_path))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
