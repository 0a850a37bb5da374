"""Medians and ratios with confidence intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.benchmark import statistics

SECONDS = st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=6)
LAUNCHES = st.lists(SECONDS, min_size=1, max_size=7)


@given(LAUNCHES)
def test_a_median_lies_in_its_interval_and_that_among_the_launches(launches: list[list[float]]) -> None:
    found = statistics.median(launches)
    medians = [float(np.median(launch)) for launch in launches]
    assert found.value == pytest.approx(np.median(medians))
    assert min(medians) <= found.low <= found.value <= found.high <= max(medians)


def test_one_slow_request_or_launch_moves_no_median() -> None:
    quiet = statistics.median([[1.0, 1.0, 9.0], [1.1, 1.1, 1.1], [1.2, 1.2, 1.2], [7.0, 7.0, 7.0], [1.1, 1.1, 1.1]])
    assert quiet.value == pytest.approx(1.1)


@given(LAUNCHES, st.floats(0.1, 10.0))
def test_what_the_machine_does_to_a_round_cancels_out_of_a_ratio(launches: list[list[float]], factor: float) -> None:
    slower = [[factor * second for second in launch] for launch in launches]
    found = statistics.ratio(slower, launches)
    assert found.value == pytest.approx(factor)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


def test_rounds_that_one_of_both_lacks_are_left_out_of_a_ratio() -> None:
    assert statistics.ratio([[2.0], [2.0], [50.0]], [[1.0], [1.0]]).value == 2.0


def test_the_interval_of_launches_that_scatter_covers_the_truth_mostly() -> None:
    draw = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        found = statistics.median(np.exp(draw.normal(0, 0.1, (7, 9))).tolist())
        hits += not found.excludes(1.0)
    assert hits >= 85


def test_percentiles_and_means() -> None:
    assert statistics.percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert statistics.percentile([1.0, 2.0], 100) == 2.0
    assert statistics.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
