"""Whether two answers to one request are the same but for rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flexpie.core.boundary import Boundary

Arrays = Mapping[str, npt.NDArray[Any]]

ABSOLUTE_TOLERANCE = {"float16": 1e-2, "bfloat16": 1e-1}
"""Largest absolute difference by element type; float32 and float64 have `FLOAT_TOLERANCE`, all others none."""
FLOAT_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-5
"""Largest difference relative to the largest output, where that allows more."""
BOUNDARY_TOLERANCE = 2e-2
"""The same for a plan with float16 boundaries, each of which rounds to 11 bits (5e-4 at most). docs/plans.md says how
large the errors of some models are; a wrong answer differs by far more."""


@dataclass(frozen=True)
class Comparison:
    """How far two sets of outputs are apart."""

    max_abs_error: float
    max_rel_error: float
    """Relative to the largest absolute output."""
    equal: bool
    """Whether every output is within its tolerance."""


def compare(expected: Arrays, actual: Arrays, boundary: Boundary = Boundary.FLOAT32) -> Comparison:
    """Compare outputs by name; `boundary` is that of the plan that yielded them. Integers, booleans and strings must be
    the same; NaN equals NaN."""
    relative = RELATIVE_TOLERANCE if boundary is Boundary.FLOAT32 else BOUNDARY_TOLERANCE
    results = [_compare_one(expected[name], actual[name], relative) for name in expected]
    return Comparison(
        max((result.max_abs_error for result in results), default=0.0),
        max((result.max_rel_error for result in results), default=0.0),
        all(result.equal for result in results),
    )


def _compare_one(expected: npt.NDArray[Any], actual: npt.NDArray[Any], allowed: float) -> Comparison:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return Comparison(float("inf"), float("inf"), False)
    if expected.size == 0:
        return Comparison(0.0, 0.0, True)
    if expected.dtype.kind not in "fV" and expected.dtype.name not in ABSOLUTE_TOLERANCE:
        same = bool(np.array_equal(expected, actual))
        return Comparison(0.0 if same else float("inf"), 0.0 if same else float("inf"), same)
    wide, other = expected.astype(np.float64), actual.astype(np.float64)
    agree = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.where(agree, 0.0, np.abs(wide - other))
    difference = np.where(np.isnan(difference), np.inf, difference)
    finite = np.abs(wide[np.isfinite(wide)])
    largest = float(finite.max()) if finite.size else 0.0
    error = float(difference.max())
    tolerance = ABSOLUTE_TOLERANCE.get(expected.dtype.name, FLOAT_TOLERANCE)
    relative = error / largest if largest else (0.0 if error == 0.0 else float("inf"))
    return Comparison(error, relative, error <= max(tolerance, allowed * largest))
