"""Rates from the times of the calibration kernels."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie.compiler.kernels import KERNELS, LONG, SHORT, kernel_model
from flexpie.core.rates import REFERENCE_RATES
from flexpie.traces.kernels import amounts, computing_rates
from flexpie.worker.engine import OnnxRuntimeEngine


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_runs_and_yields_finite_numbers(name: str) -> None:
    session = OnnxRuntimeEngine().load(kernel_model(name, SHORT).SerializeToString())
    (port,) = session.inputs
    (result,) = session.run([np.ones([length or 1 for length in port.shape], np.float32)])
    assert np.isfinite(result).all()
    assert result.shape == port.shape


def test_amounts_count_what_the_planner_counts() -> None:
    convolution = 2 * 128 * 128 * 9 * 28 * 28
    assert amounts("dense") == (SHORT * convolution, LONG * convolution)
    assert amounts("matrix") == (SHORT * 2 * 128 * 512 * 512, LONG * 2 * 128 * 512 * 512)
    assert amounts("node") == (SHORT * 16, LONG * 16)


def test_rates_follow_from_the_difference_of_the_chains() -> None:
    overhead, factor = 1e-3, 3.0  # whatever a run costs besides, and how much slower than the reference core
    reference = {
        "dense": 1 / REFERENCE_RATES.dense_flops_per_second,
        "depthwise": 1 / REFERENCE_RATES.depthwise_flops_per_second,
        "matrix": 1 / REFERENCE_RATES.matrix_flops_per_second,
        "element": 1 / REFERENCE_RATES.element_flops_per_second,
        "memory": 1 / REFERENCE_RATES.memory_bytes_per_second,
        "node": REFERENCE_RATES.node_seconds,
    }
    seconds = {
        name: (
            overhead + factor * amounts(name)[0] * reference[name],
            overhead + factor * amounts(name)[1] * reference[name],
        )
        for name in KERNELS
    }
    rates = computing_rates(seconds, REFERENCE_RATES)
    assert rates.dense_flops_per_second == pytest.approx(REFERENCE_RATES.dense_flops_per_second / factor)
    assert rates.memory_bytes_per_second == pytest.approx(REFERENCE_RATES.memory_bytes_per_second / factor)
    assert rates.node_seconds == pytest.approx(REFERENCE_RATES.node_seconds * factor)
    assert rates.send_seconds == REFERENCE_RATES.send_seconds


def test_a_clock_that_cannot_tell_gives_finite_rates() -> None:
    rates = computing_rates(dict.fromkeys(KERNELS, (1e-3, 1e-3)), REFERENCE_RATES)
    assert np.isfinite(rates.dense_flops_per_second)
    assert rates.node_seconds > 0
