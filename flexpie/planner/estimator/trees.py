"""Gradient-boosted trees in LightGBM's text format, checked against the features that this FlexPie makes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flexpie.planner.cost import Array

_DIGEST = "sha256="


class UnusableEstimator(Exception):
    """An estimator file that is missing, broken or of another schema; the text says which."""


class Trees:
    """Predicts from a table of features."""

    def __init__(self, booster: Any) -> None:
        """`booster` is a ``lightgbm.Booster``."""
        self._booster = booster

    @property
    def booster(self) -> Any:
        """The ``lightgbm.Booster``."""
        return self._booster

    def predict(self, features: Array) -> Array:
        """Shape [rows], from features of shape [rows, features]."""
        if not len(features):
            return np.zeros(0)
        found: Array = self._booster.predict(features, num_threads=1)
        return found

    def save(self, path: Path) -> None:
        """Write the text file: LightGBM's text, and a last line with its digest."""
        text = self._booster.model_to_string()
        path.write_text(f"{text}{_DIGEST}{_digest(text)}\n")


def load_trees(path: Path, features: Sequence[str]) -> Trees:
    """Read a text file.

    Parameters
    ----------
    features: names that the file's features must have, in this order: they are its schema.

    Raises UnusableEstimator.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableEstimator(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None
    text, mark, digest = text.rpartition(_DIGEST)
    if not mark or _digest(text) != digest.strip():  # LightGBM may crash on a text that is not as it was written
        raise UnusableEstimator(f"{path} is truncated, changed, or no estimator")
    found = next((line for line in text.splitlines() if line.startswith("feature_names=")), "")
    if found.removeprefix("feature_names=").split() != list(features):
        raise UnusableEstimator(f"{path} was trained for another version of FlexPie: its features are others")
    import lightgbm  # slow to import; only those who predict need it

    return Trees(lightgbm.Booster(model_str=text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
