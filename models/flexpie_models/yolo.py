"""A YOLO detector: YOLOv5s, release 5 (github.com/ultralytics/yolov5), trained on COCO's 80 classes.

CSP backbone (Wang et al., "CSPNet", CVPRW 2020) behind a space-to-depth stem, spatial pyramid pooling (He et al.,
2014), a path aggregation neck (Liu et al., "PANet", CVPR 2018) that doubles resolutions by nearest Resize, and a head
that decodes three scales into one list of boxes through five-dimensional Reshape and Transpose. Parameters are named
by the number of the layer, as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from flexpie_models.convolution import Activation, ConvolutionalLayers
from flexpie_models.graph_builder import ABSENT, Dimension, GraphBuilder, Value, scope_of
from flexpie_models.weights import SILU_GAIN, RandomWeights

CLASSES = 80
BOX = 5 + CLASSES
"""Numbers per box: centre x and y, width, height, objectness, classes."""

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""(width, height) in pixels of the three anchors of each scale."""

STRIDES = (8, 16, 32)
"""Pixels per cell of each scale."""

POOLS = (5, 9, 13)
"""Windows of the spatial pyramid pooling."""

_EPSILON = 1e-3

# Measured with seeds 0..3 on photographs and noise: boxes of up to 900 pixels, fp32 rounding about 4e-4 pixels. With
# the factor at 1 the many sums and concatenations grow from layer to layer, and rounding to 0.1 pixels.
_GAIN_FACTOR = 0.9
_HEAD_GAIN = 0.8
_BRANCH_SCALE = 0.3


def build_yolo(*, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto:
    """`input` [batch, 3, image_size, image_size] in 0..1 → `detections` [batch, boxes, 85].

    There are three boxes for each cell of 8, of 16 and of 32 pixels; centre and size are in pixels.
    """
    if image_size % STRIDES[-1]:
        raise ValueError(f"yolo_style needs an image size that is a multiple of {STRIDES[-1]}, not {image_size}")
    graph = GraphBuilder("yolo_style")
    layers = ConvolutionalLayers(graph, RandomWeights(seed), _EPSILON, _GAIN_FACTOR)
    network = _Yolo(graph, layers, batch)
    image = graph.input("input", np.float32, [batch, 3, image_size, image_size])
    scales = network.neck(network.backbone(image))
    boxes = [network.decode(scale, index, image_size // STRIDES[index]) for index, scale in enumerate(scales)]
    detections = graph.node("Concat", *boxes, name="/model.24/Concat", output="detections", axis=1)
    count = sum(3 * (image_size // stride) ** 2 for stride in STRIDES)
    graph.output(detections, np.float32, [batch, count, BOX])
    return graph.model()


@dataclass(frozen=True)
class _Yolo:
    graph: GraphBuilder
    layers: ConvolutionalLayers
    batch: Dimension

    def backbone(self, image: Value) -> list[Value]:
        """Features of strides 8, 16 and 32: 128, 256 and 512 channels."""
        value = self._conv(self._space_to_depth(image), "model.0.conv", (12, 32), kernel=3, gain=1.0)
        value = self._conv(value, "model.1", (32, 64), kernel=3, stride=2)
        value = self._csp(value, "model.2", (64, 64), blocks=1)
        value = self._conv(value, "model.3", (64, 128), kernel=3, stride=2)
        eighth = self._csp(value, "model.4", (128, 128), blocks=3)
        value = self._conv(eighth, "model.5", (128, 256), kernel=3, stride=2)
        sixteenth = self._csp(value, "model.6", (256, 256), blocks=3)
        value = self._conv(sixteenth, "model.7", (256, 512), kernel=3, stride=2)
        value = self._pyramid_pooling(value, "model.8", 512)
        return [eighth, sixteenth, self._csp(value, "model.9", (512, 512), blocks=1, shortcut=False)]

    def neck(self, features: list[Value]) -> list[Value]:
        """Carries context to the finer features and back: strides 8, 16 and 32 with 128, 256 and 512 channels."""
        eighth, sixteenth, lowest = features
        lowest = self._conv(lowest, "model.10", (512, 256))
        value = self._concat("model.12", self._double(lowest, "model.11"), sixteenth)
        value = self._csp(value, "model.13", (512, 256), blocks=1, shortcut=False)
        middle = self._conv(value, "model.14", (256, 128))
        value = self._concat("model.16", self._double(middle, "model.15"), eighth)
        fine = self._csp(value, "model.17", (256, 128), blocks=1, shortcut=False)
        value = self._concat("model.19", self._conv(fine, "model.18", (128, 128), kernel=3, stride=2), middle)
        medium = self._csp(value, "model.20", (256, 256), blocks=1, shortcut=False)
        value = self._concat("model.22", self._conv(medium, "model.21", (256, 256), kernel=3, stride=2), lowest)
        return [fine, medium, self._csp(value, "model.23", (512, 512), blocks=1, shortcut=False)]

    def decode(self, value: Value, index: int, cells: int) -> Value:
        """Boxes of one scale, [batch, 3 * cells * cells, 85], from features [batch, channels, cells, cells]."""
        graph, scope = self.graph, f"/model.24/m.{index}"
        channels = (128 << index, len(ANCHORS[index]) * BOX)
        value = self.layers.conv(value, f"model.24.m.{index}", channels, gain=_HEAD_GAIN * SILU_GAIN, bias=0.5)
        value = graph.reshape(value, [self.batch, len(ANCHORS[index]), BOX, cells, cells], name=f"{scope}/Reshape")
        value = graph.node("Transpose", value, name=f"{scope}/Transpose", perm=[0, 1, 3, 4, 2])
        value = graph.node("Sigmoid", value, name=f"{scope}/Sigmoid")
        centre, size, scores = graph.split(value, [2, 2, BOX - 4], name=f"{scope}/Split", axis=4)
        centre = graph.node("Mul", centre, graph.scalar(f"{scope}/two", 2.0), name=f"{scope}/Mul")
        centre = graph.node("Add", centre, graph.constant(f"{scope}/grid", _grid(cells)), name=f"{scope}/Add")
        stride = graph.scalar(f"{scope}/stride", STRIDES[index])
        centre = graph.node("Mul", centre, stride, name=f"{scope}/Mul_1")
        size = graph.node("Mul", size, graph.scalar(f"{scope}/two_1", 2.0), name=f"{scope}/Mul_2")
        size = graph.node("Pow", size, graph.scalar(f"{scope}/two_2", 2.0), name=f"{scope}/Pow")
        anchors = np.array(ANCHORS[index], np.float32).reshape(1, -1, 1, 1, 2)
        size = graph.node("Mul", size, graph.constant(f"{scope}/anchors", anchors), name=f"{scope}/Mul_3")
        boxes = graph.node("Concat", centre, size, scores, name=f"{scope}/Concat", axis=4)
        return graph.reshape(boxes, [self.batch, -1, BOX], name=f"{scope}/Reshape_1")

    def _conv(
        self,
        value: Value,
        module: str,
        channels: tuple[int, int],
        kernel: int = 1,
        stride: int = 1,
        gain: float = SILU_GAIN,
        scale: float = 1.0,
    ) -> Value:
        """Convolution, BatchNormalization, SiLU."""
        value = self.layers.conv_batch_norm(
            value, f"{module}.conv", f"{module}.bn", channels, kernel=kernel, stride=stride, gain=gain, scale=scale
        )
        return self.layers.activate(value, f"{module}.act", Activation.SILU)

    def _csp(
        self, value: Value, module: str, channels: tuple[int, int], *, blocks: int, shortcut: bool = True
    ) -> Value:
        """Half the channels through bottlenecks, the other half past them."""
        half = channels[1] // 2
        branch = self._conv(value, f"{module}.cv1", (channels[0], half))
        for block in range(blocks):
            inner = f"{module}.m.{block}"
            result = self._conv(branch, f"{inner}.cv1", (half, half))
            result = self._conv(
                result, f"{inner}.cv2", (half, half), kernel=3, scale=_BRANCH_SCALE if shortcut else 1.0
            )
            if shortcut:
                result = self.graph.node("Add", branch, result, name=f"{scope_of(inner)}/Add")
            branch = result
        joined = self._concat(module, branch, self._conv(value, f"{module}.cv2", (channels[0], half)))
        return self._conv(joined, f"{module}.cv3", (2 * half, channels[1]))

    def _pyramid_pooling(self, value: Value, module: str, channels: int) -> Value:
        """The features beside their maxima in three windows."""
        value = self._conv(value, f"{module}.cv1", (channels, channels // 2))
        pooled = [
            self.graph.node(
                "MaxPool",
                value,
                name=f"{scope_of(module)}/m.{index}/MaxPool",
                ceil_mode=0,
                kernel_shape=[size, size],
                pads=[size // 2] * 4,
                strides=[1, 1],
            )
            for index, size in enumerate(POOLS)
        ]
        # Maxima of up to 169 numbers lie far above the numbers.
        joined = self._concat(module, value, *pooled)
        return self._conv(joined, f"{module}.cv2", (2 * channels, channels), gain=0.6)

    def _space_to_depth(self, image: Value) -> Value:
        """Every second pixel: [batch, 3, H, W] → [batch, 12, H/2, W/2]."""
        parts = []
        for column in (0, 1):
            for row in (0, 1):
                scope = f"/model.0/{row}{column}"
                rows = self.graph.slice(image, name=f"{scope}/Slice", axis=2, start=row, step=2)
                parts.append(self.graph.slice(rows, name=f"{scope}/Slice_1", axis=3, start=column, step=2))
        return self._concat("model.0", *parts)

    def _double(self, value: Value, module: str) -> Value:
        """Each pixel four times: [batch, C, H, W] → [batch, C, 2H, 2W]."""
        scope = scope_of(module)
        scales = self.graph.constant(f"{scope}/scales", np.array([1.0, 1.0, 2.0, 2.0], np.float32))
        return self.graph.node(
            "Resize",
            value,
            ABSENT,
            scales,
            name=f"{scope}/Resize",
            coordinate_transformation_mode="asymmetric",
            cubic_coeff_a=-0.75,
            mode="nearest",
            nearest_mode="floor",
        )

    def _concat(self, module: str, *values: Value) -> Value:
        return self.graph.node("Concat", *values, name=f"{scope_of(module)}/Concat", axis=1)


def _grid(cells: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Column and row of each cell minus one half: [1, 1, cells, cells, 2]."""
    rows, columns = np.mgrid[:cells, :cells]
    return (np.stack([columns, rows], axis=-1)[None, None] - 0.5).astype(np.float32)
