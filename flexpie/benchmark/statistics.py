"""Medians, percentiles, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_DRAWS = 4000
_SEED = 7

Launches = Sequence[Sequence[float]]
"""Seconds of each request of each launch."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float

    def excludes(self, number: float) -> bool:
        """Whether a number lies outside of the interval."""
        return not self.low <= number <= self.high


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed, interpolated; there must be one value at least."""
    return float(np.percentile(np.asarray(values), percent))


def median(launches: Launches) -> Estimate:
    """The median of the launches' medians.

    Requests of one launch are alike, launches are not: so launches are what the bootstrap draws again.
    """
    medians = _medians(launches)
    return _estimate(float(np.median(medians)), np.median(medians[_drawn(len(medians))], axis=1))


def ratio(slower: Launches, faster: Launches) -> Estimate:
    """How many times longer `slower` takes: the ratio of the medians of the launches' medians.

    Launches of the same round belong together, and are drawn together: what the machine did then, it did to both.
    Rounds that only one of them has are left out.
    """
    rounds = min(len(slower), len(faster))
    first, second = _medians(slower[:rounds]), _medians(faster[:rounds])
    drawn = _drawn(rounds)
    ratios = np.median(first[drawn], axis=1) / np.median(second[drawn], axis=1)
    return _estimate(float(np.median(first) / np.median(second)), ratios)


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive values, at least one."""
    return float(np.exp(np.mean(np.log(np.asarray(values)))))


def _medians(launches: Launches) -> npt.NDArray[np.float64]:
    return np.array([np.median(np.asarray(seconds)) for seconds in launches], dtype=np.float64)


def _drawn(count: int) -> npt.NDArray[np.intp]:
    """Indices of launches: shape [draws, count]. The same ones for the same count."""
    return np.random.default_rng(_SEED).integers(0, count, (_DRAWS, count))


def _estimate(value: float, drawn: npt.NDArray[np.float64]) -> Estimate:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Estimate(value, min(float(low), value), max(float(high), value))
