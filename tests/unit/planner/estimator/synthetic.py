"""Measurements of a made-up device whose law is known."""

from __future__ import annotations

import numpy as np

from flexpie.core.rates import REFERENCE_RATES, DeviceRates
from flexpie.planner.cost import LayerWork, Work
from flexpie.planner.estimator.features import base_seconds, describe, speeds_of
from flexpie.planner.estimator.training import Measured


def convolution(channels: int, rows: int, kernel: int = 3, columns: int = 14, depthwise: bool = False) -> LayerWork:
    """A convolution with as many channels in as out, and a Relu."""
    group = channels if depthwise else 1
    image, weight = (1, channels, rows, columns), (channels, channels // group, kernel, kernel)
    flops = 2 * channels * rows * columns * kernel**2 * channels // group
    nbytes, weight_bytes = 4 * channels * rows * columns, 4 * channels * kernel**2 * channels // group
    main = Work("Conv", flops, nbytes + weight_bytes, nbytes, weight_bytes, (image, weight), (image,),
                (kernel, kernel), (1, 1), group)  # fmt: skip
    return main, Work("Relu", nbytes // 4, nbytes, nbytes, 0, (image,), (image,), linked=True)


def measured(
    devices: dict[str, DeviceRates] | None = None, launches: int = 3, noise: float = 0.01, seed: int = 0
) -> Measured:
    """Convolutions in `launches` launches on each device: kernels of 1×1 take twice what physics says, all else 1.2
    times."""
    devices = devices or {"d0": REFERENCE_RATES}
    works = [convolution(c, r, k) for c in range(8, 136, 8) for r in range(2, 30, 4) for k in (1, 3)]
    described = describe(works)
    rng = np.random.default_rng(seed)
    parts = []
    for name, rates in devices.items():
        speeds = speeds_of(rates)
        law = base_seconds(described, speeds) * np.array([2.0 if work[0].kernel == (1, 1) else 1.2 for work in works])
        for launch in range(launches):
            parts.append(
                Measured(
                    described,
                    np.array(["Conv"] * len(works), object),
                    np.array([f"c{index}" for index in range(len(works))], object),
                    np.array([name] * len(works), object),
                    np.array([f"{name}/{launch}"] * len(works), object),
                    np.tile(speeds, (len(works), 1)),
                    law * np.exp(rng.normal(0, noise, len(works))),
                )
            )
    return Measured(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("described", "op_types", "configurations", "devices", "launches", "speeds", "seconds")
        )
    )
