"""The cost model that was learned from traces, and which cost model a plan is made with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.rates import DeviceRates
from flexpie.planner.cost import Array, CostModel, LayerWork, MessageCosts
from flexpie.planner.estimator.exchanges import FEATURES as EXCHANGE_FEATURES
from flexpie.planner.estimator.exchanges import ExchangeFeatures, predict_exchanges
from flexpie.planner.estimator.features import FEATURES as COMPUTE_FEATURES
from flexpie.planner.estimator.features import base_seconds, describe, speeds_of, tree_features
from flexpie.planner.estimator.trees import Trees, UnusableEstimator, load_trees
from flexpie.planner.physics import PhysicsCostModel

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "data"
COMPUTE_FILE = "compute.txt"
"""Name of the i-Estimator in a folder of estimators."""
EXCHANGE_FILE = "exchange.txt"
"""Name of the s-Estimator."""


@dataclass(frozen=True)
class Estimators:
    """What was learned."""

    compute: Trees
    """The i-Estimator: trees of `flexpie.planner.estimator.features.FEATURES`."""
    exchange: Trees | None = None
    """The s-Estimator: trees of `flexpie.planner.estimator.exchanges.FEATURES`; None leaves exchanges to physics."""


class LearnedCostModel:
    """Computing and exchanges as the estimators predict them; what messages cost the processors, by measured rates.

    Parameters
    ----------
    cluster: its devices' rates.
    """

    def __init__(self, cluster: Cluster, estimators: Estimators) -> None:
        self._estimators = estimators
        self._rates = [device.rates for device in cluster.devices]
        self._physics = PhysicsCostModel(cluster)
        self._exchanges = ExchangeFeatures(cluster)
        self._known: dict[DeviceRates, dict[LayerWork, float]] = {rates: {} for rates in self._rates}
        """Seconds of each work that a device with these rates was asked for: a planner asks again and again."""

    @property
    def messages(self) -> MessageCosts:
        """See `flexpie.planner.cost.CostModel`."""
        return self._physics.messages

    @property
    def twins(self) -> tuple[int, ...]:
        """Devices of equal rates; see `flexpie.planner.cost.CostModel`."""
        return self._physics.twins

    def compute_seconds(self, device: int, works: Sequence[LayerWork]) -> Array:
        """Seconds of each layer's part on a device; see `flexpie.planner.cost.CostModel`."""
        rates = self._rates[device]
        known = self._known[rates]
        fresh = [work for work in dict.fromkeys(works) if work not in known]
        known.update(zip(fresh, self._predicted(rates, fresh).tolist(), strict=True))
        return np.array([known[work] for work in works], dtype=np.float64)

    def _predicted(self, rates: DeviceRates, works: Sequence[LayerWork]) -> Array:
        described, speeds = describe(works), speeds_of(rates)
        factor = np.exp(self._estimators.compute.predict(tree_features(described, speeds)))
        seconds: Array = base_seconds(described, speeds) * factor
        return seconds

    def exchange_seconds(self, nbytes: Array) -> Array:
        """See `flexpie.planner.cost.CostModel`."""
        physics = self._physics.exchange_seconds(nbytes)
        if self._estimators.exchange is None:
            return physics
        features = self._exchanges.features(nbytes).reshape(-1, len(EXCHANGE_FEATURES))
        seconds = predict_exchanges(
            self._estimators.exchange, features, physics.reshape(-1), self._exchanges.unit_seconds
        )
        return seconds.reshape(nbytes.shape[:-2])


def default_cost_model(cluster: Cluster, folder: Path = SHIPPED) -> CostModel:
    """The learned cost model where all devices are calibrated: measured rates are what the estimators know devices by.

    `PhysicsCostModel` where one is not, and, with a warning, where an estimator's file cannot be used.
    """
    if any(device.measured is None for device in cluster.devices):
        return PhysicsCostModel(cluster)
    try:
        return LearnedCostModel(cluster, load_estimators(folder))
    except UnusableEstimator as error:
        _warn(str(error))
        return PhysicsCostModel(cluster)


@cache
def load_estimators(folder: Path = SHIPPED) -> Estimators:
    """The estimators in a folder, those that come with FlexPie by default; the s-Estimator may be absent.

    Raises UnusableEstimator.
    """
    compute, exchange = folder / COMPUTE_FILE, folder / EXCHANGE_FILE
    return Estimators(
        load_trees(compute, COMPUTE_FEATURES),
        load_trees(exchange, EXCHANGE_FEATURES) if exchange.exists() else None,
    )


@cache
def _warn(reason: str) -> None:
    """Once for each reason: a master plans again and again."""
    logger.warning("Plans are made by physics alone, which predicts worse: the estimator %s.", reason)
