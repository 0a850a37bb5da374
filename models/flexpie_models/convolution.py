"""The layers the convolutional architectures share: Conv + BatchNormalization, and the classifier head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexpie_models.graph_builder import GraphBuilder, Value, scope_of
from flexpie_models.weights import RELU_GAIN, RandomWeights

CLASSES = 1000


@dataclass(frozen=True)
class ConvolutionalLayers:
    """Appends layers with random weights to a graph; parameter names follow torchvision."""

    graph: GraphBuilder
    weights: RandomWeights

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
        filters = self.weights.filters(f"{conv}.weight", shape, gain)
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
            epsilon=1e-5,
            momentum=0.9,
        )

    def relu(self, value: Value, module: str) -> Value:
        """ReLU named after its module."""
        return self.graph.node("Relu", value, name=f"{scope_of(module)}/Relu")

    def classifier(self, value: Value, channels: int, module: str, gain: float) -> Value:
        """GlobalAveragePool, Flatten and Gemm: [N, channels, H, W] → `logits` [N, 1000]."""
        pooled = self.graph.node("GlobalAveragePool", value, name="/avgpool/GlobalAveragePool")
        flat = self.graph.node("Flatten", pooled, name="/Flatten", axis=1)
        matrix = self.weights.filters(f"{module}.weight", (CLASSES, channels), gain)
        bias = self.weights.normal(f"{module}.bias", (CLASSES,), 0.1)
        return self.graph.node(
            "Gemm",
            flat,
            self.graph.weight(f"{module}.weight", matrix),
            self.graph.weight(f"{module}.bias", bias),
            name=f"{scope_of(module)}/Gemm",
            output="logits",
            alpha=1.0,
            beta=1.0,
            transB=1,
        )
