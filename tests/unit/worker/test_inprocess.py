"""A whole cluster in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, Send
from flexpie.worker.inprocess import InProcessCluster
from tests.worker_programs import X, Z, fake_engine, fake_package, onnx_package


def test_it_answers() -> None:
    package = onnx_package()
    cluster = InProcessCluster(package.programs, package.master, package.blobs)
    for factor in (1, 3):
        np.testing.assert_array_equal(cluster.infer({"x": factor * X})["z"], factor * Z)


def test_blobs_may_lie_in_a_folder(tmp_path: Path) -> None:
    package = onnx_package()
    for name, content in package.blobs.items():
        (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(InProcessCluster(package.programs, package.master, tmp_path).infer({"x": X})["z"], Z)


def test_any_engine_will_do() -> None:
    package = fake_package()
    cluster = InProcessCluster((*package.programs, None), package.master, package.blobs, fake_engine())
    np.testing.assert_array_equal(cluster.infer({"x": X})["z"], Z)
    assert cluster.sent_bytes == {
        (MASTER, 0): 16,
        (MASTER, 1): 16,
        (0, 1): 4,
        (1, 0): 4,
        (0, MASTER): 12,
        (1, MASTER): 12,
    }


def test_failures_are_raised_and_the_next_inference_succeeds() -> None:
    package = fake_package()
    cluster = InProcessCluster(package.programs, package.master, package.blobs, fake_engine())
    for wrong in ({}, {"x": X[:4]}, {"x": X.astype(np.float64)}):
        with pytest.raises(FlexPieError) as raised:
            cluster.infer(wrong)
        assert raised.value.code is ErrorCode.INVALID_INPUT
    np.testing.assert_array_equal(cluster.infer({"x": X})["z"], Z)


def test_a_message_that_nobody_sends_is_found() -> None:
    package = fake_package()
    first = package.programs[0]
    mute = replace(first, steps=tuple(s for s in first.steps if not (isinstance(s, Send) and s.destination == 1)))
    cluster = InProcessCluster((mute, package.programs[1]), package.master, package.blobs, fake_engine())
    with pytest.raises(FlexPieError, match="waits for ever for a message") as raised:
        cluster.infer({"x": X})
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_a_package_is_refused_as_a_worker_would() -> None:
    package = fake_package()
    with pytest.raises(FlexPieError, match="lacks the blob"):
        InProcessCluster(package.programs, package.master, {}, fake_engine())
    broken = replace(package.programs[0], values=())
    with pytest.raises(FlexPieError, match="cannot be run"):
        InProcessCluster((broken,), package.master, {}, fake_engine())
