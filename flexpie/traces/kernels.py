"""From the times of the calibration kernels to a device's rates of computing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from flexpie.compiler import import_model
from flexpie.compiler.kernels import KERNELS, LONG, SHORT, kernel_model
from flexpie.core.footprint import segment_footprints
from flexpie.core.rates import DeviceRates
from flexpie.core.scheme import single
from flexpie.planner.cost import Work, work_of

_RATE_OF = {
    "dense": "dense_flops_per_second",
    "depthwise": "depthwise_flops_per_second",
    "matrix": "matrix_flops_per_second",
    "element": "element_flops_per_second",
    "memory": "memory_bytes_per_second",
    "node": "node_seconds",
}


def computing_rates(seconds: Mapping[str, tuple[float, float]], rates: DeviceRates) -> DeviceRates:
    """`rates` with those of computing replaced by what was measured.

    Parameters
    ----------
    seconds: by kernel (`flexpie.compiler.kernels.KERNELS`): a run of the short chain and one of the long chain.
    """
    found = {}
    for kernel in KERNELS:
        short, long = seconds[kernel]
        extra = max(long - short, 1e-9)  # a device so fast that its clock cannot tell still has a finite speed
        amount = amounts(kernel)[1] - amounts(kernel)[0]
        found[_RATE_OF[kernel]] = extra / amount if kernel == "node" else amount / extra
    return replace(rates, **found)


def scaled_rates(rates: DeviceRates, faster: Mapping[str, float]) -> DeviceRates:
    """`rates` of a device that is now so many times as fast in each kernel."""
    return replace(
        rates,
        **{
            name: getattr(rates, name) / faster[kernel] if kernel == "node" else getattr(rates, name) * faster[kernel]
            for kernel, name in _RATE_OF.items()
        },
    )


@cache
def amounts(kernel: str) -> tuple[float, float]:
    """What the short and the long chain of a kernel do, as the planner counts it: floating-point operations, bytes read
    and written for ``memory``, operators for ``node``."""
    return _amount(kernel, SHORT), _amount(kernel, LONG)


def _amount(kernel: str, steps: int) -> float:
    works = _works(kernel, steps)
    if kernel == "node":
        return len(works)
    if kernel == "memory":
        return sum(work.bytes_read + work.bytes_written for work in works)
    return sum(work.flops for work in works)


def _works(kernel: str, steps: int) -> list[Work]:
    with tempfile.TemporaryDirectory(prefix="flexpie-") as folder:
        path = Path(folder) / "kernel.onnx"
        path.write_bytes(kernel_model(kernel, steps).SerializeToString())
        graph = import_model(path).graph
    (footprint,) = segment_footprints(graph, 0, len(graph.layers), single(0), (1.0,))
    return [work_of(graph, part) for part in footprint.parts]
