"""The s-Estimator: seconds of an exchange, from what it asks of the busiest device, port and processor.

It is monotone by construction, as `CostModel.exchange_seconds` demands: each feature grows with each message's bytes,
the trees are constrained to grow with each feature, and physics, which grows too, is a floor for what is larger than
anything that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from flexpie.core.cluster import Cluster
from flexpie.planner.cost import Array, MessageCosts
from flexpie.planner.estimator.trees import Trees
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.routes import Routes

Labels = npt.NDArray[np.object_]

FEATURES = ("physics", "messages", "bytes", "port", "all_processors", "all_messages", "latency")
"""In units of what one message costs the slowest device (`unit_seconds`): what physics predicts; handling the messages
and the bytes at the busiest processor, and sending at the busiest port; all processors together; then how many messages
there are, relayed ones at each hop; and the longest way's latency. All but the count are logarithms."""

LEAST_OF_PHYSICS = 0.5
"""An exchange never takes less than this share of what physics says."""

TREES = 150
PARAMETERS = {
    "objective": "regression",  # LightGBM takes no constraints for absolute errors
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 10,
    "monotone_constraints": [1] * len(FEATURES),
    "deterministic": True,
    "num_threads": 1,  # several wait for one another in vain where other work has the cores
    "force_row_wise": True,
    "seed": 1,
    "verbosity": -1,
}


class ExchangeFeatures:
    """Makes features of exchanges on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._physics = PhysicsCostModel(cluster)
        self._routes = Routes(cluster)
        self.unit_seconds = unit_seconds(self._physics.messages)

    def physics_seconds(self, nbytes: Array) -> Array:
        """What physics predicts; shape [...] for `nbytes` of shape [..., n + 1, n + 1]."""
        return self._physics.exchange_seconds(nbytes)

    def features(self, nbytes: Array) -> Array:
        """`FEATURES`, shape [..., len(FEATURES)]."""
        load, costs, unit = self._routes.load(nbytes), self._physics.messages, self.unit_seconds
        messages = load.sent * costs.send_seconds + load.received * costs.receive_seconds
        moving = load.handled_bytes * costs.seconds_per_byte
        seconds = (
            self.physics_seconds(nbytes),
            messages.max(axis=-1),
            moving.max(axis=-1),
            np.maximum(load.outgoing_seconds, load.incoming_seconds).max(axis=-1),
            (messages + moving).sum(axis=-1),
        )
        return np.stack(
            (
                *(np.log(item / unit + 1e-3) for item in seconds),
                load.sent.sum(axis=-1),
                np.log(load.latency_seconds / unit + 1e-3),
            ),
            axis=-1,
        )


def unit_seconds(costs: MessageCosts) -> float:
    """What sending, receiving and going on cost the slowest device."""
    return float(np.max((costs.send_seconds + costs.receive_seconds + costs.start_seconds)[:-1]))


def predict_exchanges(trees: Trees, features: Array, physics_seconds: Array, unit: Array | float) -> Array:
    """Seconds of exchanges; 0 where nothing is sent.

    Parameters
    ----------
    features: shape [rows, len(FEATURES)].
    physics_seconds, unit: shape [rows], `unit` also a number.
    """
    learned = unit * np.exp(trees.predict(features))
    seconds = np.maximum(learned, LEAST_OF_PHYSICS * physics_seconds)
    return np.where(physics_seconds > 0, seconds, 0.0)


@dataclass(frozen=True)
class MeasuredExchanges:
    """Measurements as columns; shape [rows] but for `features`, [rows, len(FEATURES)]."""

    features: Array
    physics_seconds: Array
    units: Array
    configurations: Labels
    devices: Labels
    """The clusters that they were measured on."""
    seconds: Array

    def __len__(self) -> int:
        return len(self.seconds)

    def only(self, rows: npt.NDArray[np.bool_]) -> MeasuredExchanges:
        """Some of the rows."""
        return MeasuredExchanges(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def measured_exchanges(
    asked: Sequence[tuple[Cluster, Array]],
    configurations: Labels,
    devices: Labels,
    seconds: Array,
) -> MeasuredExchanges:
    """From exchanges, each on its cluster, and what they took."""
    rows = []
    makers: dict[int, ExchangeFeatures] = {}
    for cluster, nbytes in asked:
        maker = makers.setdefault(id(cluster), ExchangeFeatures(cluster))
        rows.append((maker.features(nbytes), float(maker.physics_seconds(nbytes)), maker.unit_seconds))
    return MeasuredExchanges(
        np.array([features for features, _, _ in rows]),
        np.array([physics for _, physics, _ in rows]),
        np.array([unit for _, _, unit in rows]),
        configurations,
        devices,
        seconds,
    )


def train_exchanges(measured: MeasuredExchanges, trees: int = TREES) -> Trees:
    """Trees for `predict_exchanges`."""
    import lightgbm  # slow to import

    target = np.log(measured.seconds / measured.units)
    data = lightgbm.Dataset(measured.features, target, feature_name=list(FEATURES))
    return Trees(lightgbm.train(PARAMETERS, data, trees))


def cross_validated_exchanges(measured: MeasuredExchanges, folds: npt.NDArray[np.int64]) -> Array:
    """Predictions of each row by trees that saw no row of its fold; NaN where a fold has all rows."""
    predicted = np.full(len(measured), np.nan)
    for fold in np.unique(folds):
        held_out = folds == fold
        if not held_out.all():
            part = measured.only(held_out)
            trees = train_exchanges(measured.only(~held_out))
            predicted[held_out] = predict_exchanges(trees, part.features, part.physics_seconds, part.units)
    return predicted
