"""Training and honest evaluation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flexpie.core.rates import REFERENCE_RATES
from flexpie.planner.estimator.training import (
    Measured,
    cross_validated,
    errors,
    evaluate,
    fold_of,
    once,
    predict,
    repeated_errors,
    train,
)
from flexpie.planner.estimator.trees import Trees
from tests.unit.planner.estimator.synthetic import measured


def quick(part: Measured) -> Trees:
    return train(part, trees=60)


def test_a_known_law_is_learned() -> None:
    rows = measured()
    predicted = cross_validated(rows, fold_of(rows.configurations), quick)
    found = errors(rows.seconds, predicted)
    assert found.median < 0.03
    assert found.mean < 0.05
    assert found.rows == len(rows)


def test_equal_work_is_never_on_both_sides_of_a_split() -> None:
    """Every configuration has a factor of its own that nothing tells: only leaking would find it out."""
    rows = measured(launches=6, noise=0.0)
    of = np.unique(rows.configurations, return_inverse=True)[1]
    factors = np.exp(np.random.default_rng(1).normal(0, 0.5, of.max() + 1))
    rows = dataclasses.replace(rows, seconds=rows.seconds * factors[of])

    def memorising(part: Measured) -> Trees:
        return train(part, trees=300, min_data_in_leaf=1, num_leaves=255)

    at_random = np.random.default_rng(2).integers(0, 5, len(rows))
    leaked = errors(rows.seconds, cross_validated(rows, at_random, memorising)).median
    grouped = errors(rows.seconds, cross_validated(rows, fold_of(rows.configurations), memorising)).median
    assert leaked < 0.1
    assert grouped > 0.2


def test_folds_depend_on_the_configuration_alone() -> None:
    names = [f"c{index}" for index in range(1000)]
    folds = fold_of(names)
    assert (fold_of(names[::-1]) == folds[::-1]).all()
    assert min(np.bincount(folds)) > 100


def test_a_device_that_was_not_seen_is_predicted_from_its_rates() -> None:
    rows = measured({"fast": REFERENCE_RATES, "slow": REFERENCE_RATES.scaled(0.1)})
    evaluation = evaluate(rows)
    assert errors(rows.seconds, evaluation.by_device).mean < 0.05


def test_one_device_cannot_be_left_out() -> None:
    rows = measured()
    assert np.isnan(evaluate(rows).by_device).all()
    assert errors(rows.seconds, evaluate(rows).by_device).rows == 0


def test_whole_launches_are_sums() -> None:
    evaluation = evaluate(measured(launches=2))
    seconds, predicted = evaluation.launches()
    assert seconds.sum() == pytest.approx(evaluation.measured.seconds.sum())
    assert predicted.sum() == pytest.approx(evaluation.by_configuration.sum())
    assert len(seconds) == 2


def test_errors_are_relative_to_what_was_measured() -> None:
    found = errors(np.array([1.0, 2.0, 4.0]), np.array([1.1, 1.0, 4.0]))
    assert found.median == pytest.approx(0.1)
    assert found.mean == pytest.approx(0.2)
    assert found.weighted == pytest.approx(1.1 / 7)


def test_repeated_measurements_tell_what_nobody_can_predict() -> None:
    assert repeated_errors(measured(launches=5, noise=0.0)).mean == pytest.approx(0.0, abs=1e-9)
    noisy = repeated_errors(measured(launches=5, noise=0.1))
    assert 0.04 < noisy.median < 0.15
    assert repeated_errors(measured(launches=2)).rows == 0


def test_training_again_gives_the_same_trees() -> None:
    rows = measured(launches=1)
    assert (predict(quick(rows), rows) == predict(quick(rows), rows)).all()


def test_each_configuration_counts_once() -> None:
    rows = measured(launches=3, noise=0.0)
    seconds, predicted = once(rows, rows.seconds * 1.1, least_repeats=3)
    assert 0 < len(seconds) <= len(rows) / 3
    assert predicted == pytest.approx(seconds * 1.1)
    assert len(once(rows, rows.seconds, least_repeats=len(rows) + 1)[0]) == 0
