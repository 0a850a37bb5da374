"""U-Net (Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015).

With padded convolutions and BatchNormalization, as in the well-known PyTorch version (github.com/milesial/
Pytorch-UNet, whose parameter names it has), so that the mask is as large as the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from flexpie_models.convolution import ConvolutionalLayers
from flexpie_models.graph_builder import ABSENT, Dimension, GraphBuilder, Value, scope_of
from flexpie_models.weights import RELU_GAIN, RandomWeights

WIDTHS = (64, 128, 256, 512, 1024)
"""Channels of the five resolutions, the finest first."""

CLASSES = 2
SMALLEST_IMAGE = 2 ** (len(WIDTHS) - 1)

# Measured with seeds 0..3 on photographs and noise: logits of order one, fp32 rounding about 1e-5. With the factor at
# 1 the skips amplify what differs between pixels, rounding included, to 6e-5.
_GAIN_FACTOR = 0.93
_CLASSIFIER_GAIN = 1.0


@dataclass(frozen=True)
class UNetConfig:
    """How the decoder doubles the resolution: by a transposed convolution, or by a bilinear Resize."""

    name: str
    bilinear: bool


UNET = UNetConfig("unet", bilinear=False)
UNET_BILINEAR = UNetConfig("unet_bilinear", bilinear=True)


def build_unet(config: UNetConfig, *, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] → `logits` [batch, 2, image_size, image_size]."""
    if image_size < SMALLEST_IMAGE:
        raise ValueError(f"{config.name} needs images of at least {SMALLEST_IMAGE} pixels, not {image_size}")
    graph = GraphBuilder(config.name)
    network = _UNet(config, graph, ConvolutionalLayers(graph, RandomWeights(seed), gain_factor=_GAIN_FACTOR))
    value = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    value = network.double_conv(value, "inc", (3, WIDTHS[0], WIDTHS[0]), gain=1.0)
    skips = []
    sizes = [image_size]
    lowest = len(WIDTHS) - 1
    for level in range(1, lowest + 1):
        skips.append(value)
        sizes.append(sizes[-1] // 2)
        # Without a layer that halves the channels on the way up, the lowest resolution has half as many.
        width = WIDTHS[level] // 2 if config.bilinear and level == lowest else WIDTHS[level]
        value = network.down(value, f"down{level}", (WIDTHS[level - 1], width, width))
    for step, level in enumerate(reversed(range(lowest)), start=1):
        value = network.up(value, skips[level], f"up{step}", level, (sizes[level + 1], sizes[level]))
    logits = network.layers.conv(value, "outc.conv", (WIDTHS[0], CLASSES), gain=_CLASSIFIER_GAIN, output="logits")
    graph.output(logits, np.float32, [batch, CLASSES, image_size, image_size])
    return graph.model()


@dataclass(frozen=True)
class _UNet:
    config: UNetConfig
    graph: GraphBuilder
    layers: ConvolutionalLayers

    def double_conv(self, value: Value, module: str, channels: tuple[int, int, int], gain: float = RELU_GAIN) -> Value:
        """Twice convolution, BatchNormalization and Relu; `channels` are those in, between and out."""
        for index in (0, 1):
            first = f"{module}.double_conv.{3 * index}"
            value = self.layers.conv_batch_norm(
                value,
                first,
                f"{module}.double_conv.{3 * index + 1}",
                (channels[index], channels[index + 1]),
                kernel=3,
                gain=gain,
            )
            value = self.layers.relu(value, f"{module}.double_conv.{3 * index + 2}")
            gain = RELU_GAIN
        return value

    def down(self, value: Value, module: str, channels: tuple[int, int, int]) -> Value:
        """Half the resolution, then a double convolution."""
        name = f"{scope_of(module)}/maxpool_conv/0/MaxPool"
        pooled = self.graph.node(
            "MaxPool", value, name=name, ceil_mode=0, kernel_shape=[2, 2], pads=[0, 0, 0, 0], strides=[2, 2]
        )
        return self.double_conv(pooled, f"{module}.maxpool_conv.1", channels)

    def up(self, value: Value, skip: Value, module: str, level: int, sizes: tuple[int, int]) -> Value:
        """Twice the resolution, beside what the encoder had there, then a double convolution.

        `level` is that of `skip`, `sizes` are the extents of `value` and `skip`.
        """
        width = WIDTHS[level]
        if self.config.bilinear:
            value = self._resize(value, f"{scope_of(module)}/up")
            channels = (2 * width, width, width if level == 0 else width // 2)
        else:
            value = self._transposed_conv(value, f"{module}.up", (2 * width, width))
            channels = (2 * width, width, width)
        missing = sizes[1] - 2 * sizes[0]
        if missing:
            value = self._pad(value, missing, scope_of(module))
        joined = self.graph.node("Concat", skip, value, name=f"{scope_of(module)}/Concat", axis=1)
        return self.double_conv(joined, f"{module}.conv", channels)

    def _transposed_conv(self, value: Value, module: str, channels: tuple[int, int]) -> Value:
        shape = (*channels, 2, 2)
        # Kernel and stride are equal: each number of the result comes from one pixel, that is from `channels[0]`.
        std = RELU_GAIN / math.sqrt(2.0 * channels[0])
        return self.graph.node(
            "ConvTranspose",
            value,
            self.graph.weight(f"{module}.weight", self.layers.weights.normal(f"{module}.weight", shape, std)),
            self.graph.weight(f"{module}.bias", self.layers.weights.normal(f"{module}.bias", shape[1:2], 0.1)),
            name=f"{scope_of(module)}/ConvTranspose",
            dilations=[1, 1],
            group=1,
            kernel_shape=[2, 2],
            pads=[0, 0, 0, 0],
            strides=[2, 2],
        )

    def _resize(self, value: Value, scope: str) -> Value:
        scales = self.graph.constant(f"{scope}/scales", np.array([1.0, 1.0, 2.0, 2.0], np.float32))
        return self.graph.node(
            "Resize",
            value,
            ABSENT,
            scales,
            name=f"{scope}/Resize",
            coordinate_transformation_mode="align_corners",
            cubic_coeff_a=-0.75,
            mode="linear",
            nearest_mode="floor",
        )

    def _pad(self, value: Value, missing: int, scope: str) -> Value:
        """`missing` zero rows and columns, where an odd extent was halved and doubled."""
        before, after = missing // 2, missing - missing // 2
        pads = self.graph.ints(f"{scope}/pads", [0, 0, before, before, 0, 0, after, after])
        return self.graph.node("Pad", value, pads, name=f"{scope}/Pad", mode="constant")
