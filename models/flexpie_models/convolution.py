"""The layers the convolutional architectures share: Conv + BatchNormalization, and the classifier head."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from flexpie_models.graph_builder import GraphBuilder, Value, scope_of
from flexpie_models.weights import HARD_SWISH_GAIN, RELU_GAIN, SILU_GAIN, RandomWeights

CLASSES = 1000


class Activation(Enum):
    """What follows a normalised convolution; the value is the gain of the layer behind it."""

    RELU = RELU_GAIN
    SILU = SILU_GAIN
    HARD_SWISH = HARD_SWISH_GAIN


@dataclass(frozen=True)
class ConvolutionalLayers:
    """Appends layers with random weights to a graph; parameter names follow torchvision."""

    graph: GraphBuilder
    weights: RandomWeights
    epsilon: float = 1e-5
    """What BatchNormalization adds to the variance."""
    gain_factor: float = 1.0
    """Multiplies every gain in front of a BatchNormalization: a little above 1, differences between inputs survive
    activations that are nearly linear; much above, they and the rounding grow without bounds."""

    def conv_batch_norm(
        self,
        value: Value,
        conv: str,
        batch_norm: str,
        channels: tuple[int, int],
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        gain: float = RELU_GAIN,
        scale: float = 1.0,
    ) -> Value:
        """Convolution without bias, BatchNormalization: [N, in, H, W] → [N, out, ceil(H/stride), ceil(W/stride)].

        `conv` and `batch_norm` are the dotted module names. `gain` undoes what the activation before the layer
        did to the variance, `scale` is the standard deviation of the layer's own output.
        """
        channels_in, channels_out = channels
        stats = self.weights.batch_norm(batch_norm, channels_out, scale)
        shape = (channels_out, channels_in // groups, kernel, kernel)
        filters = self.weights.filters(f"{conv}.weight", shape, gain * self.gain_factor)
        # The filters produce what the statistics claim, so normalising really normalises.
        filters *= np.sqrt(stats.variance)[:, None, None, None]
        convolved = self.graph.node(
            "Conv",
            value,
            self.graph.weight(f"{conv}.weight", filters),
            name=f"{scope_of(conv)}/Conv",
            dilations=[1, 1],
            group=groups,
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[stride, stride],
        )
        return self.graph.node(
            "BatchNormalization",
            convolved,
            self.graph.weight(f"{batch_norm}.weight", stats.scale),
            self.graph.weight(f"{batch_norm}.bias", stats.bias),
            self.graph.weight(f"{batch_norm}.running_mean", stats.mean),
            self.graph.weight(f"{batch_norm}.running_var", stats.variance),
            name=f"{scope_of(batch_norm)}/BatchNormalization",
            epsilon=self.epsilon,
            momentum=0.9,
        )

    def conv(
        self,
        value: Value,
        module: str,
        channels: tuple[int, int],
        *,
        kernel: int = 1,
        stride: int = 1,
        gain: float = RELU_GAIN,
        bias: float = 0.1,
        output: str | None = None,
    ) -> Value:
        """Convolution with a bias and no normalisation; without padding where stride and kernel are equal.

        `gain` is that of `conv_batch_norm`, `bias` the standard deviation of the bias.
        """
        shape = (channels[1], channels[0], kernel, kernel)
        return self.graph.node(
            "Conv",
            value,
            self.graph.weight(f"{module}.weight", self.weights.filters(f"{module}.weight", shape, gain)),
            self.graph.weight(f"{module}.bias", self.weights.normal(f"{module}.bias", (channels[1],), bias)),
            name=f"{scope_of(module)}/Conv",
            output=output,
            dilations=[1, 1],
            group=1,
            kernel_shape=[kernel, kernel],
            pads=[0 if stride == kernel else kernel // 2] * 4,
            strides=[stride, stride],
        )

    def activate(self, value: Value, module: str, activation: Activation) -> Value:
        """The activation, in the operators that the exporter writes for it."""
        scope = scope_of(module)
        if activation is Activation.RELU:
            return self.relu(value, module)
        if activation is Activation.HARD_SWISH:
            return self.graph.node("HardSwish", value, name=f"{scope}/HardSwish")
        gate = self.graph.node("Sigmoid", value, name=f"{scope}/Sigmoid")
        return self.graph.node("Mul", value, gate, name=f"{scope}/Mul")

    def relu(self, value: Value, module: str) -> Value:
        """ReLU named after its module."""
        return self.graph.node("Relu", value, name=f"{scope_of(module)}/Relu")

    def classifier(self, value: Value, channels: int, module: str, gain: float) -> Value:
        """GlobalAveragePool, Flatten and Gemm: [N, channels, H, W] → `logits` [N, 1000]."""
        flat = self.pool(value)
        return self.dense(flat, (channels, CLASSES), module, gain, output="logits")

    def pool(self, value: Value) -> Value:
        """GlobalAveragePool and Flatten: [N, channels, H, W] → [N, channels]."""
        pooled = self.graph.node("GlobalAveragePool", value, name="/avgpool/GlobalAveragePool")
        return self.graph.node("Flatten", pooled, name="/Flatten", axis=1)

    def dense(
        self, value: Value, channels: tuple[int, int], module: str, gain: float, output: str | None = None
    ) -> Value:
        """Gemm: [N, in] → [N, out]."""
        channels_in, channels_out = channels
        matrix = self.weights.filters(f"{module}.weight", (channels_out, channels_in), gain)
        bias = self.weights.normal(f"{module}.bias", (channels_out,), 0.1)
        return self.graph.node(
            "Gemm",
            value,
            self.graph.weight(f"{module}.weight", matrix),
            self.graph.weight(f"{module}.bias", bias),
            name=f"{scope_of(module)}/Gemm",
            output=output,
            alpha=1.0,
            beta=1.0,
            transB=1,
        )
