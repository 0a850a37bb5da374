"""Trains the i-Estimator, and tells honestly how wrong it is on what it has not seen."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from flexpie.planner.cost import Array
from flexpie.planner.estimator.features import CATEGORICAL, FEATURES, WORK_FEATURES, base_seconds, tree_features
from flexpie.planner.estimator.trees import Trees

Labels = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]

_BORDERS = [WORK_FEATURES.index("enters"), WORK_FEATURES.index("leaves")]

FOLDS = 5
TREES = 300
PARAMETERS = {
    "objective": "regression_l1",
    "learning_rate": 0.08,
    "num_leaves": 63,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_cat_to_onehot": 1,
    "cat_smooth": 5.0,
    "deterministic": True,
    "num_threads": 1,  # several wait for one another in vain where other work has the cores
    "force_row_wise": True,
    "seed": 1,
    "verbosity": -1,
}
"""Errors count by their size, not by its square: single measurements are off by far, when other work came between."""


@dataclass(frozen=True)
class Measured:
    """Measurements as columns of shape [rows]."""

    described: Array
    """What was done, as `flexpie.planner.estimator.features.describe` gives it; shape [rows, columns]."""
    op_types: Labels
    configurations: Labels
    """Equal for equal work."""
    devices: Labels
    launches: Labels
    """Which rows were measured together."""
    speeds: Array
    """Of the device while it was measured (`flexpie.planner.estimator.features.speeds_of`); shape [rows, 6]."""
    seconds: Array

    def __len__(self) -> int:
        return len(self.seconds)

    def only(self, rows: Mask) -> Measured:
        """Some of the rows."""
        return Measured(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def train(measured: Measured, trees: int = TREES, **parameters: float) -> Trees:
    """Trees for `predict`, of the logarithm of measured over physical seconds; `parameters` replace LightGBM's."""
    import lightgbm  # slow to import

    features, base = _inputs(measured)
    data = lightgbm.Dataset(
        features,
        np.log(measured.seconds / base),
        feature_name=list(FEATURES),
        categorical_feature=list(CATEGORICAL),
        free_raw_data=False,
    )
    return Trees(lightgbm.train({**PARAMETERS, **parameters}, data, trees))


def predict(trees: Trees, measured: Measured) -> Array:
    """Predicted seconds of each row."""
    features, base = _inputs(measured)
    predicted: Array = base * np.exp(trees.predict(features))
    return predicted


def _inputs(measured: Measured) -> tuple[Array, Array]:
    return tree_features(measured.described, measured.speeds), base_seconds(measured.described, measured.speeds)


# ------------------------------------------------------------------------------------------- evaluation


def fold_of(configurations: Sequence[str] | Labels, folds: int = FOLDS) -> npt.NDArray[np.int64]:
    """The fold of each configuration, by its name alone: equal work is never on both sides of a split."""
    return np.array([zlib.crc32(str(name).encode()) % folds for name in configurations], dtype=np.int64)


def cross_validated(
    measured: Measured, folds: npt.NDArray[np.int64], train_on: Callable[[Measured], Trees] = train
) -> Array:
    """Predictions of each row by trees that saw no row of its fold; NaN for a fold that has all rows."""
    predicted = np.full(len(measured), np.nan)
    for fold in np.unique(folds):
        held_out = folds == fold
        if not held_out.all():
            predicted[held_out] = predict(train_on(measured.only(~held_out)), measured.only(held_out))
    return predicted


def by_configuration(measured: Measured) -> Array:
    """Predictions for work that was not seen on any device."""
    return cross_validated(measured, fold_of(measured.configurations))


def by_device(measured: Measured) -> Array:
    """Predictions for a device that was not seen, described by its rates alone."""
    return cross_validated(measured, np.unique(measured.devices, return_inverse=True)[1].astype(np.int64))


@dataclass(frozen=True)
class Errors:
    """Relative errors: the difference of predicted and measured over measured."""

    rows: int
    median: float
    mean: float
    ninth: float
    """Nine of ten are at most this."""
    weighted: float
    """All differences together over all measured seconds: what is long counts more."""


def errors(measured: Array, predicted: Array) -> Errors:
    """Of some rows."""
    known = ~np.isnan(predicted)
    measured, predicted = measured[known], predicted[known]
    if not len(measured):
        return Errors(0, np.nan, np.nan, np.nan, np.nan)
    off = np.abs(predicted - measured)
    relative = off / measured
    return Errors(
        len(measured),
        float(np.median(relative)),
        float(np.mean(relative)),
        float(np.quantile(relative, 0.9)),
        float(off.sum() / measured.sum()),
    )


def repeated_errors(measured: Measured) -> Errors:
    """How far single measurements of equal work on a device are from the median of the others, beyond what the
    device's speed at that time explains: what no estimator can know."""
    relative = measured.seconds / base_seconds(measured.described, measured.speeds)
    _, of = np.unique(np.stack((measured.devices.astype(str), measured.configurations.astype(str))), axis=1,
                      return_inverse=True)  # fmt: skip
    order = np.argsort(of, kind="stable")
    others = np.full(len(measured), np.nan)
    for rows in np.split(order, np.flatnonzero(np.diff(of[order])) + 1):
        if len(rows) >= 3:
            for row in rows:
                others[row] = np.median(relative[rows[rows != row]])
    return errors(relative, others)


def once(measured: Measured, predicted: Array, least_repeats: int = 1) -> tuple[Array, Array]:
    """Measured and predicted seconds of each configuration on each device, at each place in a segment: medians of all
    its rows, of which there must be so many.

    A single measurement is off by more than a prediction; of several, the median is not.
    """
    borders = measured.described[:, _BORDERS]
    keys = zip(measured.devices.tolist(), measured.configurations.tolist(), map(tuple, borders.tolist()), strict=True)
    groups: dict[object, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    chosen = [rows for rows in groups.values() if len(rows) >= least_repeats]
    return (
        np.array([np.median(measured.seconds[rows]) for rows in chosen]),
        np.array([np.median(predicted[rows]) for rows in chosen]),
    )


@dataclass(frozen=True)
class Evaluation:
    """Predictions of rows that the trees had not seen."""

    measured: Measured
    by_configuration: Array
    """Seconds, for work that was not seen on any device; shape [rows]."""
    by_device: Array
    """Seconds, for a device that was not seen; NaN where there is but one."""

    def launches(self) -> tuple[Array, Array]:
        """Measured and predicted seconds of whole launches: all that a device computes for a request."""
        names, of = np.unique(self.measured.launches, return_inverse=True)
        seconds, predicted = np.zeros(len(names)), np.zeros(len(names))
        np.add.at(seconds, of, self.measured.seconds)
        np.add.at(predicted, of, self.by_configuration)
        return seconds, predicted


def evaluate(measured: Measured) -> Evaluation:
    """Train and predict fold by fold."""
    return Evaluation(measured, by_configuration(measured), by_device(measured))
