"""MobileNet v3, large, of width 1 (Howard et al., "Searching for MobileNetV3", ICCV 2019), as in torchvision."""

from __future__ import annotations

import numpy as np
import onnx

from flexpie_models.convolution import CLASSES, Activation, ConvolutionalLayers
from flexpie_models.graph_builder import Dimension, GraphBuilder
from flexpie_models.inverted_residual import InvertedResidual, inverted_residuals
from flexpie_models.weights import HARD_SWISH_GAIN, RandomWeights

BLOCKS = (
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
)
"""(kernel, expanded, output channels, squeeze-and-excite, activation, stride), table 1 of the paper."""

_ACTIVATIONS = {"RE": Activation.RELU, "HS": Activation.HARD_SWISH}
_LAST_CHANNELS = 960
_HIDDEN = 1280
_EPSILON = 1e-3

# Measured with seeds 0..3 on photographs and noise: logits of order one, fp32 rounding about 4e-6, photographs
# correlate at 0.995 (0.9995 without the factor).
_GAIN_FACTOR = 1.04
_POOLED_GAIN = 3.0


def build_mobilenet_v3(*, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] → `logits` [batch, 1000]."""
    graph = GraphBuilder("mobilenet_v3")
    layers = ConvolutionalLayers(graph, RandomWeights(seed), _EPSILON, _GAIN_FACTOR)
    value = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    value = layers.conv_batch_norm(value, "features.0.0", "features.0.1", (3, 16), kernel=3, stride=2, gain=1.0)
    value = layers.activate(value, "features.0.2", Activation.HARD_SWISH)
    value, gain = inverted_residuals(layers, value, _blocks(), HARD_SWISH_GAIN)
    last = f"features.{len(BLOCKS) + 1}"
    channels = (BLOCKS[-1][2], _LAST_CHANNELS)
    value = layers.conv_batch_norm(value, f"{last}.0", f"{last}.1", channels, kernel=1, gain=gain)
    value = layers.activate(value, f"{last}.2", Activation.HARD_SWISH)
    hidden = layers.dense(layers.pool(value), (_LAST_CHANNELS, _HIDDEN), "classifier.0", _POOLED_GAIN)
    hidden = layers.activate(hidden, "classifier.1", Activation.HARD_SWISH)
    logits = layers.dense(hidden, (_HIDDEN, CLASSES), "classifier.3", HARD_SWISH_GAIN, output="logits")
    graph.output(logits, np.float32, [batch, CLASSES])
    return graph.model()


def _blocks() -> list[InvertedResidual]:
    blocks: list[InvertedResidual] = []
    channels = 16
    for index, (kernel, expanded, out_channels, squeeze, activation, stride) in enumerate(BLOCKS, start=1):
        blocks.append(
            InvertedResidual(
                module=f"features.{index}",
                channels=channels,
                expanded=expanded,
                out_channels=out_channels,
                kernel=kernel,
                stride=stride,
                activation=_ACTIVATIONS[activation],
                squeezed=_divisible_by_eight(expanded / 4) if squeeze else 0,
            )
        )
        channels = out_channels
    return blocks


def _divisible_by_eight(channels: float) -> int:
    """The nearest multiple of 8 that is at least 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
