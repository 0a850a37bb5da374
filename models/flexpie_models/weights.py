"""Seeded random weights that keep activations of order one from the first layer to the last.

A random network is a fair test of a split only if its answer depends on its whole input and does not amplify
rounding. The two pull against each other. With plain He initialisation every ReLU leaves a positive mean, and after
some dozen layers all inputs give nearly the same answer: the logits of two photographs correlate at 0.999 in
MobileNet v1. Filters that sum to zero (scaled weight standardisation: Brock et al., "Characterizing signal
propagation to close the performance gap in unnormalized ResNets", ICLR 2021) remove the mean again, but amplify
every difference from layer to layer, fp32 rounding included: about seven times as much of it reaches those logits. So a
filter loses only a part of its mean, `CENTRING`.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

CENTRING = 0.5
"""Part of its mean that a filter loses: 0 is He initialisation, 1 a zero-sum filter."""

RELU_GAIN = 1.0 / math.sqrt(0.5 - (1.0 - (1.0 - CENTRING) ** 2) / (2.0 * math.pi))
"""Factor that brings relu(z), z standard normal, back to variance one behind a partly centred filter.

relu(z) has second moment 1/2 and squared mean 1/(2 pi); centring removes 1 - (1 - CENTRING)^2 of the latter.
"""

SILU_GAIN = 1.0 / math.sqrt(0.355776 - (1.0 - (1.0 - CENTRING) ** 2) * 0.206621**2)
"""The same for z * sigmoid(z): second moment 0.355776 and mean 0.206621, by Gauss-Hermite quadrature."""

HARD_SWISH_GAIN = 1.0 / math.sqrt(0.331136 - (1.0 - (1.0 - CENTRING) ** 2) * 0.165898**2)
"""The same for z * clip(z + 3, 0, 6) / 6: second moment 0.331136 and mean 0.165898, sampled."""


@dataclass(frozen=True)
class BatchNormStatistics:
    """The four vectors [channels] of a BatchNormalization node in inference mode."""

    scale: Array
    bias: Array
    mean: Array
    variance: Array


@dataclass(frozen=True)
class RandomWeights:
    """Draws a tensor from the seed and its name alone.

    So a weight does not depend on what was drawn before it, and the static and the dynamic form of a model hold
    the same numbers.
    """

    seed: int

    def normal(self, name: str, shape: tuple[int, ...], std: float) -> Array:
        """Normal numbers with mean 0 and the given standard deviation."""
        values = self._generator(name).standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        return values

    def filters(self, name: str, shape: tuple[int, ...], gain: float) -> Array:
        """Partly centred filters [out, in / groups, *kernel] or a Gemm weight [out, in].

        The standard deviation is `gain` / sqrt(fan-in).
        """
        values = self.normal(name, shape, 1.0)
        values -= np.float32(CENTRING) * values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        values *= np.float32(gain / math.sqrt(math.prod(shape[1:])))
        return values

    def batch_norm(self, name: str, channels: int, scale: float) -> BatchNormStatistics:
        """Statistics in the range a trained network has: together they bring a channel to about `scale`."""
        draw = self._generator(name)
        std = np.exp(draw.normal(0.0, 0.4, channels))
        mean = draw.normal(0.0, 0.2, channels)
        gain = draw.uniform(0.8, 1.2, channels) * scale
        bias = draw.normal(0.0, 0.2, channels) * scale
        return BatchNormStatistics(
            scale=gain.astype(np.float32),
            bias=bias.astype(np.float32),
            mean=mean.astype(np.float32),
            variance=(std * std).astype(np.float32),
        )

    def _generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])
