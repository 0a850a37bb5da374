"""EfficientNet-B0 (Tan and Le, "EfficientNet: Rethinking Model Scaling for CNNs", ICML 2019), as in torchvision."""

from __future__ import annotations

import numpy as np
import onnx

from flexpie_models.convolution import CLASSES, Activation, ConvolutionalLayers
from flexpie_models.graph_builder import Dimension, GraphBuilder
from flexpie_models.inverted_residual import InvertedResidual, inverted_residuals
from flexpie_models.weights import SILU_GAIN, RandomWeights

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""(expansion, kernel, stride, output channels, blocks), table 1 of the paper."""

_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280

# Measured with seeds 0..3 on photographs and noise: logits of order one, fp32 rounding about 3e-6, photographs
# correlate at 0.999 and with noise at 0.9.
_GAIN_FACTOR = 1.01
_CLASSIFIER_GAIN = 3.0


def build_efficientnet_b0(*, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] → `logits` [batch, 1000]."""
    graph = GraphBuilder("efficientnet_b0")
    layers = ConvolutionalLayers(graph, RandomWeights(seed), gain_factor=_GAIN_FACTOR)
    value = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    value = layers.conv_batch_norm(
        value, "features.0.0", "features.0.1", (3, _STEM_CHANNELS), kernel=3, stride=2, gain=1.0
    )
    value = layers.activate(value, "features.0.2", Activation.SILU)
    value, gain = inverted_residuals(layers, value, _blocks(), SILU_GAIN)
    last = f"features.{len(STAGES) + 1}"
    channels = (STAGES[-1][3], _LAST_CHANNELS)
    value = layers.conv_batch_norm(value, f"{last}.0", f"{last}.1", channels, kernel=1, gain=gain)
    value = layers.activate(value, f"{last}.2", Activation.SILU)
    logits = layers.classifier(value, _LAST_CHANNELS, "classifier.1", _CLASSIFIER_GAIN)
    graph.output(logits, np.float32, [batch, CLASSES])
    return graph.model()


def _blocks() -> list[InvertedResidual]:
    blocks: list[InvertedResidual] = []
    channels = _STEM_CHANNELS
    for stage, (expansion, kernel, stride, out_channels, count) in enumerate(STAGES, start=1):
        for index in range(count):
            blocks.append(
                InvertedResidual(
                    module=f"features.{stage}.{index}",
                    channels=channels,
                    expanded=channels * expansion,
                    out_channels=out_channels,
                    kernel=kernel,
                    stride=stride if index == 0 else 1,
                    activation=Activation.SILU,
                    squeezed=max(1, channels // 4),
                )
            )
            channels = out_channels
    return blocks
