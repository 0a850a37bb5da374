"""MobileNet v1 of width 1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks", 2017)."""

from __future__ import annotations

import numpy as np
import onnx

from flexpie_models.convolution import CLASSES, ConvolutionalLayers
from flexpie_models.graph_builder import Dimension, GraphBuilder, Value
from flexpie_models.weights import RandomWeights

SEPARABLE_LAYERS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""(output channels, stride) of the 13 depthwise-separable layers, table 1 of the paper."""

# Measured with seeds 0..3 on photographs and noise: logits of order one, fp32 rounding about 5e-6.
_CLASSIFIER_GAIN = 3.0


def build_mobilenet_v1(*, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] → `logits` [batch, 1000]."""
    graph = GraphBuilder("mobilenet_v1")
    layers = ConvolutionalLayers(graph, RandomWeights(seed))
    value = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    channels = 32
    value = layers.conv_batch_norm(value, "stem.conv", "stem.bn", (3, channels), kernel=3, stride=2, gain=1.0)
    value = _relu6(graph, value, "stem")
    for number, (out_channels, stride) in enumerate(SEPARABLE_LAYERS, start=1):
        module = f"separable{number}"
        value = layers.conv_batch_norm(
            value,
            f"{module}.depthwise.conv",
            f"{module}.depthwise.bn",
            (channels, channels),
            kernel=3,
            stride=stride,
            groups=channels,
        )
        value = _relu6(graph, value, f"{module}/depthwise")
        value = layers.conv_batch_norm(
            value, f"{module}.pointwise.conv", f"{module}.pointwise.bn", (channels, out_channels), kernel=1
        )
        value = _relu6(graph, value, f"{module}/pointwise")
        channels = out_channels
    logits = layers.classifier(value, channels, "classifier", _CLASSIFIER_GAIN)
    graph.output(logits, np.float32, [batch, CLASSES])
    return graph.model()


def _relu6(graph: GraphBuilder, value: Value, scope: str) -> Value:
    low = graph.constant(f"/{scope}/Constant", np.array(0.0, np.float32))
    high = graph.constant(f"/{scope}/Constant_1", np.array(6.0, np.float32))
    return graph.node("Clip", value, low, high, name=f"/{scope}/Clip")
