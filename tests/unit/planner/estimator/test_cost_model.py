"""The learned cost model, and what happens without it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.rates import REFERENCE_RATES
from flexpie.planner.estimator import Estimators, LearnedCostModel, default_cost_model, load_estimators
from flexpie.planner.estimator.cost_model import COMPUTE_FILE, EXCHANGE_FILE, SHIPPED
from flexpie.planner.estimator.features import FEATURES
from flexpie.planner.estimator.training import predict, train
from flexpie.planner.estimator.trees import UnusableEstimator, load_trees
from flexpie.planner.physics import PhysicsCostModel
from tests.unit.planner.estimator.synthetic import convolution, measured

WORKS = [convolution(channels, rows) for channels in (8, 64, 128) for rows in (2, 14)]
LINK = Link(125e6, 5e-5)
CORE = dataclasses.replace(
    REFERENCE_RATES,
    dense_flops_per_second=83e9,
    depthwise_flops_per_second=23e9,
    matrix_flops_per_second=74e9,
    element_flops_per_second=7.7e9,
    memory_bytes_per_second=34e9,
    node_seconds=0.56e-6,
)
"""What calibration found of the core that the shipped estimator was trained on."""


def cluster(*speeds: float) -> Cluster:
    devices = (Device(f"d{at}", "h:1", measured=CORE.scaled(speed)) for at, speed in enumerate(speeds))
    return Cluster(tuple(devices), LINK)


def test_the_shipped_estimator_is_asked_where_devices_are_calibrated() -> None:
    model = default_cost_model(cluster(1.0, 0.2))
    assert isinstance(model, LearnedCostModel)
    seconds = model.compute_seconds(0, WORKS)
    assert seconds.shape == (len(WORKS),)
    assert np.isfinite(seconds).all()
    assert (seconds > 0).all()
    assert model.compute_seconds(1, WORKS) == pytest.approx(5 * seconds)


def test_asking_again_and_in_another_order_gives_the_same() -> None:
    model = default_cost_model(cluster(1.0, 0.5))
    first = model.compute_seconds(0, WORKS)
    model.compute_seconds(1, WORKS[:2])
    assert (model.compute_seconds(0, WORKS[::-1]) == first[::-1]).all()
    assert len(model.compute_seconds(0, [])) == 0


def test_equal_devices_are_twins() -> None:
    assert default_cost_model(cluster(1.0, 0.5, 1.0)).twins == (0, 1, 0)


def test_more_bytes_never_take_less_time_and_none_take_none() -> None:
    model = default_cost_model(cluster(1.0, 0.2, 0.2))
    rng = np.random.default_rng(0)
    nbytes = rng.integers(0, 3, (50, 4, 4)) * rng.integers(0, 200_000, (50, 4, 4)) * (1 - np.eye(4))
    more = nbytes + rng.integers(0, 2, (50, 4, 4)) * 10_000.0 * (1 - np.eye(4))
    assert (model.exchange_seconds(more) >= model.exchange_seconds(nbytes)).all()
    assert model.exchange_seconds(np.zeros((4, 4))) == 0


def test_exchanges_are_left_to_physics_where_nothing_was_learned_of_them() -> None:
    where = cluster(1.0, 0.2)
    nbytes = np.array([[0.0, 1e5, 0.0], [0.0, 0.0, 0.0], [2e4, 0.0, 0.0]])
    model = LearnedCostModel(where, Estimators(load_estimators().compute))
    assert model.exchange_seconds(nbytes) == PhysicsCostModel(where).exchange_seconds(nbytes)


def test_a_broken_file_of_exchanges_is_no_absent_one(tmp_path: Path) -> None:
    (tmp_path / COMPUTE_FILE).write_text(shipped_text())
    assert load_estimators(tmp_path).exchange is None
    load_estimators.cache_clear()
    (tmp_path / EXCHANGE_FILE).write_text("nonsense")
    with pytest.raises(UnusableEstimator, match=EXCHANGE_FILE):
        load_estimators(tmp_path)


def test_a_trained_estimator_predicts_the_same_from_its_file(tmp_path: Path) -> None:
    rows = measured(launches=1)
    trees = train(rows, trees=30)
    trees.save(tmp_path / COMPUTE_FILE)
    assert (predict(load_trees(tmp_path / COMPUTE_FILE, FEATURES), rows) == predict(trees, rows)).all()


def shipped_text() -> str:
    return (SHIPPED / COMPUTE_FILE).read_text()


def signed(text: str) -> str:
    return f"{text}sha256={hashlib.sha256(text.encode()).hexdigest()}\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        ("nonsense", "no estimator"),
        ("half", "truncated"),
        ("changed", "changed"),
        ("renamed", "another version of FlexPie"),
    ],
)
def test_without_a_usable_file_physics_plans_with_one_warning(
    content: str | None, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = shipped_text()
    contents = {
        "half": text[: len(text) // 2],
        "changed": text.replace("leaf_value=", "leaf_worth="),
        "renamed": signed(text.rpartition("sha256=")[0].replace("flops", "operations")),
    }
    if content is not None:
        (tmp_path / COMPUTE_FILE).write_text(contents.get(content, content))
    with caplog.at_level(logging.WARNING):
        models = [default_cost_model(cluster(1.0), tmp_path) for _ in range(3)]
    assert all(isinstance(model, PhysicsCostModel) for model in models)
    assert len(caplog.records) == 1
    assert reason in caplog.text


def test_a_core_like_the_trained_one_is_predicted_near_its_physics() -> None:
    """A convolution of 230 million operations is neither instantaneous nor slow."""
    (seconds,) = default_cost_model(cluster(1.0)).compute_seconds(0, [convolution(128, 28, 3, 28)])
    physics = 2 * 128 * 128 * 9 * 28 * 28 / CORE.dense_flops_per_second
    assert physics / 2 < seconds < 3 * physics


def test_devices_that_are_not_calibrated_are_left_to_physics() -> None:
    known = cluster(1.0).devices[0]
    assert isinstance(default_cost_model(Cluster((known, Device("d1", "h:2")), LINK)), PhysicsCostModel)
