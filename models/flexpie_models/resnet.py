"""ResNet-18 and ResNet-101 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Shapes and names are torchvision's: the stride of a bottleneck sits on its 3x3 convolution ("v1.5").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from flexpie_models.convolution import CLASSES, ConvolutionalLayers
from flexpie_models.graph_builder import Dimension, GraphBuilder, Value, scope_of
from flexpie_models.weights import RELU_GAIN, RandomWeights

STAGE_WIDTHS = (64, 128, 256, 512)

# Measured with seeds 0..3 on photographs and noise: logits of order one, fp32 rounding about 2e-6.
_BRANCH_SCALE = 0.3
_GROWTH_PER_BLOCK = 0.2
_CLASSIFIER_GAIN = 2.0


@dataclass(frozen=True)
class ResNetConfig:
    """One member of the family: blocks per stage, and whether they are bottlenecks (1x1, 3x3, 1x1)."""

    name: str
    blocks: tuple[int, int, int, int]
    bottleneck: bool

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by the width of its stage."""
        return 4 if self.bottleneck else 1


RESNET18 = ResNetConfig("resnet18", (2, 2, 2, 2), bottleneck=False)
RESNET101 = ResNetConfig("resnet101", (3, 4, 23, 3), bottleneck=True)


@dataclass(frozen=True)
class _Block:
    """Where a residual block stands; `gain` brings the stream it reads back to variance one."""

    module: str
    channels: int
    width: int
    out_channels: int
    stride: int
    gain: float


def build_resnet(config: ResNetConfig, *, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] → `logits` [batch, 1000]."""
    graph = GraphBuilder(config.name)
    layers = ConvolutionalLayers(graph, RandomWeights(seed))
    value = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    value = layers.conv_batch_norm(value, "conv1", "bn1", (3, 64), kernel=7, stride=2, gain=1.0)
    value = layers.relu(value, "relu")
    value = graph.node(
        "MaxPool", value, name="/maxpool/MaxPool", ceil_mode=0, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
    )
    for block in _blocks(config):
        value = _residual(layers, value, block, bottleneck=config.bottleneck)
    logits = layers.classifier(value, STAGE_WIDTHS[-1] * config.expansion, "fc", _CLASSIFIER_GAIN)
    graph.output(logits, np.float32, [batch, CLASSES])
    return graph.model()


def _blocks(config: ResNetConfig) -> list[_Block]:
    blocks: list[_Block] = []
    channels = 64
    sums = 0  # residual sums since the last shortcut with a normalisation of its own
    for stage, (width, count) in enumerate(zip(STAGE_WIDTHS, config.blocks, strict=True), start=1):
        for index in range(count):
            blocks.append(
                _Block(
                    module=f"layer{stage}.{index}",
                    channels=channels,
                    width=width,
                    out_channels=width * config.expansion,
                    stride=2 if stage > 1 and index == 0 else 1,
                    # Nothing normalises the stream itself; unscaled it would grow geometrically with depth.
                    gain=RELU_GAIN / math.sqrt(1.0 + _GROWTH_PER_BLOCK * sums),
                )
            )
            channels = width * config.expansion
            sums = 1 if index == 0 else sums + 1
    return blocks


def _residual(layers: ConvolutionalLayers, value: Value, block: _Block, *, bottleneck: bool) -> Value:
    """The convolutions of the branch, the shortcut, their sum, Relu."""
    branch = value
    convolutions = _branch(block, bottleneck)
    for number, (channels, kernel, stride) in enumerate(convolutions, start=1):
        last = number == len(convolutions)
        branch = layers.conv_batch_norm(
            branch,
            f"{block.module}.conv{number}",
            f"{block.module}.bn{number}",
            channels,
            kernel=kernel,
            stride=stride,
            gain=block.gain if number == 1 else RELU_GAIN,
            scale=_BRANCH_SCALE if last else 1.0,
        )
        if not last:
            branch = layers.relu(branch, f"{block.module}.relu{number}")
    shortcut = value
    if block.stride != 1 or block.channels != block.out_channels:
        shortcut = layers.conv_batch_norm(
            value,
            f"{block.module}.downsample.0",
            f"{block.module}.downsample.1",
            (block.channels, block.out_channels),
            kernel=1,
            stride=block.stride,
            gain=block.gain,
        )
    total = layers.graph.node("Add", branch, shortcut, name=f"{scope_of(block.module)}/Add")
    return layers.relu(total, f"{block.module}.relu{len(convolutions)}")


def _branch(block: _Block, bottleneck: bool) -> list[tuple[tuple[int, int], int, int]]:
    """((channels in, channels out), kernel, stride) of each convolution of a block."""
    width = block.width
    if bottleneck:
        return [
            ((block.channels, width), 1, 1),
            ((width, width), 3, block.stride),
            ((width, block.out_channels), 1, 1),
        ]
    return [((block.channels, width), 3, block.stride), ((width, width), 3, 1)]
