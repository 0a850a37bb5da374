"""Why the i-Estimator predicts what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexpie.core.footprint import segment_footprints
from flexpie.core.graph import LayerGraph
from flexpie.core.rates import DeviceRates
from flexpie.core.scheme import single
from flexpie.planner.cost import LayerWork, layer_work
from flexpie.planner.estimator.cost_model import load_estimators
from flexpie.planner.estimator.features import FEATURES, base_seconds, describe, speeds_of, tree_features


@dataclass(frozen=True)
class Explanation:
    """A prediction taken apart: physics times a factor of each feature, and one of what is usual."""

    layer: str
    physics_seconds: float
    predicted_seconds: float
    usual: float
    """What physics is off by on average over all that was measured."""
    factors: tuple[tuple[str, float], ...]
    """By feature: above 1 it makes the layer slower than is usual."""

    def longer(self, count: int) -> list[tuple[str, float]]:
        """The features that make it slower, the strongest first."""
        return [item for item in sorted(self.factors, key=lambda item: -item[1])[:count] if item[1] > 1.005]

    def shorter(self, count: int) -> list[tuple[str, float]]:
        """The features that make it faster, the strongest first."""
        return [item for item in sorted(self.factors, key=lambda item: item[1])[:count] if item[1] < 0.995]

    def summary(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "layer": self.layer,
            "physics_seconds": self.physics_seconds,
            "predicted_seconds": self.predicted_seconds,
            "usual": self.usual,
            "factors": dict(self.factors),
        }


def explain_layers(graph: LayerGraph, rates: DeviceRates, names: Sequence[str]) -> list[Explanation]:
    """What is predicted for some layers when a device computes them whole.

    Raises UnusableEstimator where the shipped estimator cannot be read.
    """
    works = [_whole(graph, index) for index, layer in enumerate(graph.layers) if layer.name in names]
    described, speeds = describe(works), speeds_of(rates)
    physics, features = base_seconds(described, speeds), tree_features(described, speeds)
    contributions = np.asarray(load_estimators().compute.booster.predict(features, pred_contrib=True))
    return [
        Explanation(
            layer=name,
            physics_seconds=float(seconds),
            predicted_seconds=float(seconds * np.exp(row.sum())),
            usual=float(np.exp(row[-1])),
            factors=tuple(zip(FEATURES, np.exp(row[:-1]).tolist(), strict=True)),
        )
        for name, seconds, row in zip(names, physics, contributions, strict=True)
    ]


def _whole(graph: LayerGraph, index: int) -> LayerWork:
    (footprint,) = segment_footprints(graph, index, index + 1, single(0), (1.0,))
    return layer_work(graph, graph.layers[index], footprint.parts)
