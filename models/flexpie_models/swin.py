"""Swin transformers (Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021).

Shapes and names are torchvision's. A block cuts the feature map into windows by a six-dimensional Reshape and
Transpose and attends inside each; every second block rolls the map by half a window first (Slice and Concat) and masks
what the roll brought together from opposite borders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from flexpie_models.convolution import CLASSES, ConvolutionalLayers
from flexpie_models.graph_builder import Dimension, GraphBuilder, Value
from flexpie_models.swin_windows import Windows
from flexpie_models.transformer import TransformerLayers
from flexpie_models.weights import RandomWeights


@dataclass(frozen=True)
class SwinConfig:
    """Sizes of a Swin transformer: per stage the blocks and the heads; each stage doubles the width."""

    name: str
    width: int
    blocks: tuple[int, ...]
    heads: tuple[int, ...]
    window: int = 7
    patch: int = 4

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.heads):
            raise ValueError(f"{len(self.blocks)} stages, but heads for {len(self.heads)}")
        for stage, heads in enumerate(self.heads):
            if self.width_of(stage) % heads:
                raise ValueError(f"width {self.width_of(stage)} does not divide into {heads} heads")

    def width_of(self, stage: int) -> int:
        """Channels of a stage, the first being 0."""
        return self.width << stage


SWIN_TINY = SwinConfig("swin_style", width=96, blocks=(2, 2, 6, 2), heads=(3, 6, 12, 24))

_EPSILON = 1e-5

# Measured with seeds 0..3 on photographs and noise: logits of order one, fp32 rounding about 2e-6, photographs
# correlate at 0.6.
_PACKED_GAIN = 1.3
_BRANCH_GAIN = 0.4
_POSITION_BIAS = 0.5
_CLASSIFIER_GAIN = 2.0


def build_swin(config: SwinConfig, *, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] → `logits` [batch, 1000]."""
    if image_size % config.patch:
        raise ValueError(f"{config.name} needs an image size that is a multiple of {config.patch}, not {image_size}")
    graph, weights = GraphBuilder(config.name), RandomWeights(seed)
    network = _Swin(config, graph, TransformerLayers(graph, weights, _EPSILON), batch)
    image = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    convolution = ConvolutionalLayers(graph, weights)
    size = image_size // config.patch
    value = convolution.conv(
        image, "features.0.0", (3, config.width), kernel=config.patch, stride=config.patch, gain=1.0
    )
    value = graph.node("Transpose", value, name="/features/0/1/Transpose", perm=[0, 2, 3, 1])
    value = network.layers.layer_norm(value, "features.0.2", config.width)
    for stage, count in enumerate(config.blocks):
        if stage:
            value = network.merge_patches(value, f"features.{2 * stage}", stage, size)
            size = (size + 1) // 2
        for index in range(count):
            value = network.block(value, f"features.{2 * stage + 1}.{index}", stage, size, shifted=index % 2 == 1)
    last = config.width_of(len(config.blocks) - 1)
    value = network.layers.layer_norm(value, "norm", last)
    value = graph.node("Transpose", value, name="/permute/Transpose", perm=[0, 3, 1, 2])
    logits = network.layers.gemm(convolution.pool(value), "head", (last, CLASSES), _CLASSIFIER_GAIN, output="logits")
    graph.output(logits, np.float32, [batch, CLASSES])
    return graph.model()


@dataclass(frozen=True)
class _Swin:
    """Appends the parts of the network to `graph`; feature maps are [batch, size, size, width]."""

    config: SwinConfig
    graph: GraphBuilder
    layers: TransformerLayers
    batch: Dimension

    def block(self, value: Value, module: str, stage: int, size: int, *, shifted: bool) -> Value:
        """Attention in windows and two linear layers, each behind a LayerNormalization and with a residual sum."""
        width, scope = self.config.width_of(stage), "/" + module.replace(".", "/")
        normal = self.layers.layer_norm(value, f"{module}.norm1", width)
        windows = Windows(self.graph, self.batch, f"{scope}/attn", size, self.config.window, width, shifted)
        attended = windows.join(self._attention(windows.cut(normal), f"{module}.attn", stage, windows))
        value = self.graph.node("Add", value, attended, name=f"{scope}/Add")
        normal = self.layers.layer_norm(value, f"{module}.norm2", width)
        modules = (f"{module}.mlp.0", f"{module}.mlp.3")
        inner = self.layers.feed_forward(normal, modules, f"{scope}/mlp/1", (width, 4 * width), _BRANCH_GAIN)
        return self.graph.node("Add", value, inner, name=f"{scope}/Add_1")

    def merge_patches(self, value: Value, module: str, stage: int, size: int) -> Value:
        """Four neighbours side by side, LayerNormalization, a linear layer: half the size, twice the width."""
        scope, width = "/" + module.replace(".", "/"), self.config.width_of(stage - 1)
        if size % 2:
            pads = self.graph.ints(f"{scope}/pads", [0, 0, 0, 0, 0, 1, 1, 0])
            value = self.graph.node("Pad", value, pads, name=f"{scope}/Pad", mode="constant")
        neighbours = list(self._neighbours(value, scope))
        joined = self.graph.node("Concat", *neighbours, name=f"{scope}/Concat", axis=-1)
        normal = self.layers.layer_norm(joined, f"{module}.norm", 4 * width)
        return self.layers.linear(normal, f"{module}.reduction", (4 * width, 2 * width), bias=False)

    def _neighbours(self, value: Value, scope: str) -> Iterator[Value]:
        for column in (0, 1):
            for row in (0, 1):
                name = f"{scope}/{row}{column}"
                rows = self.graph.slice(value, name=f"{name}/Slice", axis=1, start=row, step=2)
                yield self.graph.slice(rows, name=f"{name}/Slice_1", axis=2, start=column, step=2)

    def _attention(self, value: Value, module: str, stage: int, windows: Windows) -> Value:
        """Multi-head self-attention with a bias by relative position: [windows, tokens, width] → the same."""
        graph, scope, width = self.graph, "/" + module.replace(".", "/"), self.config.width_of(stage)
        heads, tokens = self.config.heads[stage], self.config.window**2
        packed = self.layers.linear(value, f"{module}.qkv", (width, 3 * width), _PACKED_GAIN)
        query, key, value = self.layers.packed_heads(packed, scope, (windows.rows, tokens), heads, width)
        factor = graph.scalar(f"{scope}/scale", float((width // heads) ** -0.5))
        query = graph.node("Mul", query, factor, name=f"{scope}/Mul")
        key = graph.node("Transpose", key, name=f"{scope}/Transpose_1", perm=[0, 1, 3, 2])
        scores = graph.node("MatMul", query, key, name=f"{scope}/MatMul")
        scores = graph.node("Add", scores, self._position_bias(module, heads), name=f"{scope}/Add_1")
        scores = windows.mask(scores, heads)
        probabilities = graph.node("Softmax", scores, name=f"{scope}/Softmax", axis=-1)
        context = graph.node("MatMul", probabilities, value, name=f"{scope}/MatMul_1")
        merged = self.layers.merge_heads(context, scope, [windows.rows, tokens, width])
        return self.layers.linear(merged, f"{module}.proj", (width, width), _BRANCH_GAIN)

    def _position_bias(self, module: str, heads: int) -> Value:
        """What each head adds to the score of two tokens at a distance: [1, heads, tokens, tokens]."""
        graph, scope, window = self.graph, "/" + module.replace(".", "/"), self.config.window
        name = f"{module}.relative_position_bias_table"
        table = self.layers.weights.normal(name, ((2 * window - 1) ** 2, heads), _POSITION_BIAS)
        index = graph.weight(f"{module}.relative_position_index", _relative_positions(window))
        bias = graph.node("Gather", graph.weight(name, table), index, name=f"{scope}/bias/Gather", axis=0)
        bias = graph.reshape(bias, [window**2, window**2, heads], name=f"{scope}/bias/Reshape")
        bias = graph.node("Transpose", bias, name=f"{scope}/bias/Transpose", perm=[2, 0, 1])
        return graph.node("Unsqueeze", bias, graph.ints(f"{scope}/bias/axes", [0]), name=f"{scope}/bias/Unsqueeze")


def _relative_positions(window: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each pair of tokens of a window the row of the bias table that belongs to their distance."""
    rows, columns = (axis.ravel() for axis in np.mgrid[:window, :window])
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    flat: np.ndarray[tuple[int], np.dtype[np.int64]] = (down * (2 * window - 1) + right).ravel().astype(np.int64)
    return flat
