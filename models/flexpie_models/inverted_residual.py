"""The block of MobileNet v3 and EfficientNet: expand, depthwise convolution, squeeze-and-excite, project.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018; Hu et al.,
"Squeeze-and-Excitation Networks", CVPR 2018. Parameter names are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flexpie_models.convolution import Activation, ConvolutionalLayers
from flexpie_models.graph_builder import Value, scope_of
from flexpie_models.weights import RELU_GAIN

_BRANCH_SCALE = 0.5

# The gates lie around 1/2; the layer behind them makes up for it.
_GATE_GAIN = 1.8
_SQUEEZE_GAIN = 2.0


@dataclass(frozen=True)
class InvertedResidual:
    """One block; without `squeezed` channels it has no squeeze-and-excite."""

    module: str
    channels: int
    expanded: int
    out_channels: int
    kernel: int
    stride: int
    activation: Activation
    squeezed: int = 0

    @property
    def residual(self) -> bool:
        """Whether input and output are of one shape, and are added."""
        return self.stride == 1 and self.channels == self.out_channels


def inverted_residuals(
    layers: ConvolutionalLayers, value: Value, blocks: Sequence[InvertedResidual], gain: float
) -> tuple[Value, float]:
    """All blocks in turn; `gain` is that of a layer that reads `value`, returned is that of one behind them."""
    sums = 0  # residual sums since the stream was normalised last: each adds to its variance
    for block in blocks:
        branch = _branch(layers, value, block, gain)
        if block.residual:
            value = layers.graph.node("Add", branch, value, name=f"{scope_of(block.module)}/Add")
        else:
            value = branch
        sums = sums + 1 if block.residual else 0
        gain = 1.0 / math.sqrt(1.0 + _BRANCH_SCALE**2 * sums)
    return value, gain


def _branch(layers: ConvolutionalLayers, value: Value, block: InvertedResidual, gain: float) -> Value:
    parts = iter(f"{block.module}.block.{index}" for index in range(4))
    wide = (block.expanded, block.expanded)
    if block.expanded != block.channels:
        module = next(parts)
        value = layers.conv_batch_norm(
            value, f"{module}.0", f"{module}.1", (block.channels, block.expanded), kernel=1, gain=gain
        )
        value = layers.activate(value, f"{module}.2", block.activation)
        gain = block.activation.value
    module = next(parts)
    value = layers.conv_batch_norm(
        value,
        f"{module}.0",
        f"{module}.1",
        wide,
        kernel=block.kernel,
        stride=block.stride,
        groups=block.expanded,
        gain=gain,
    )
    value = layers.activate(value, f"{module}.2", block.activation)
    gain = block.activation.value
    if block.squeezed:
        value = _squeeze_and_excite(layers, value, next(parts), block)
        gain *= _GATE_GAIN
    module = next(parts)
    return layers.conv_batch_norm(
        value,
        f"{module}.0",
        f"{module}.1",
        (block.expanded, block.out_channels),
        kernel=1,
        gain=gain,
        scale=_BRANCH_SCALE if block.residual else 1.0,
    )


def _squeeze_and_excite(layers: ConvolutionalLayers, value: Value, module: str, block: InvertedResidual) -> Value:
    """Scale each channel by a gate computed from the means of all channels: [N, C, H, W] → the same."""
    graph, scope = layers.graph, scope_of(module)
    hard = block.activation is not Activation.SILU
    pooled = graph.node("GlobalAveragePool", value, name=f"{scope}/avgpool/GlobalAveragePool")
    squeezed = layers.conv(pooled, f"{module}.fc1", (block.expanded, block.squeezed), gain=_SQUEEZE_GAIN)
    squeezed = layers.activate(squeezed, f"{module}.activation", Activation.RELU if hard else Activation.SILU)
    gate = layers.conv(squeezed, f"{module}.fc2", (block.squeezed, block.expanded), gain=RELU_GAIN)
    if hard:
        gate = graph.node("HardSigmoid", gate, name=f"{scope}/scale_activation/HardSigmoid", alpha=1.0 / 6.0, beta=0.5)
    else:
        gate = graph.node("Sigmoid", gate, name=f"{scope}/scale_activation/Sigmoid")
    return graph.node("Mul", gate, value, name=f"{scope}/Mul")
