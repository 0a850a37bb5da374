"""Random convolutional graphs for tests: branches, strides, odd sizes, dilation, groups, residual connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

OPSET = 22
"""Only since this set does ONNX infer for pools with `ceil_mode` what onnxruntime computes."""
IR_VERSION = 10
_STEPS = ("conv", "conv", "conv", "depthwise", "pool", "unary", "norm", "join", "scale", "gate")
_UNARY = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Elu", "Identity")


@dataclass
class GraphWriter:
    """A graph while it is being written, with the shape of every tensor."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def weight(self, *shape: int, scale: float = 1.0, offset: float = 0.0) -> str:
        """A random weight."""
        name = f"w{len(self.initializers)}"
        values = offset + scale * self.random.standard_normal(shape)
        self.initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def integers(self, *values: int) -> str:
        """A constant vector."""
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def add(self, op_type: str, inputs: list[str], shape: tuple[int, ...] | None = None, **attributes: Any) -> str:
        """A node with one output; its shape is inferred when it is not given."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=f"{op_type.lower()}{name}", **attributes))
        self.shapes[name] = shape if shape is not None else self._infer(self.nodes[-1])
        return name

    def model(self, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
        """The finished model."""
        declare = [[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, self.shapes[name]) for name in names]
                   for names in (inputs, outputs)]  # fmt: skip
        graph = helper.make_graph(self.nodes, "random", declare[0], declare[1], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _infer(self, node: onnx.NodeProto) -> tuple[int, ...]:
        known = {t.name: t for t in self.initializers}
        inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, self.shapes[name])
                  for name in dict.fromkeys(node.input) if name in self.shapes]  # fmt: skip
        graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name=node.output[0])],
                                  [known[name] for name in node.input if name in known])  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        return tuple(dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim)


@st.composite
def convolutional_models(draw: st.DrawFn, longest: int = 9) -> onnx.ModelProto:
    """A model with one or two image inputs and one to three outputs."""
    writer = GraphWriter(np.random.default_rng(draw(st.integers(0, 2**16))))
    inputs = [f"x{index}" for index in range(draw(st.integers(1, 2)))]
    batch = draw(st.sampled_from((1, 1, 2)))
    for name in inputs:
        writer.shapes[name] = (batch, draw(st.integers(1, 6)), draw(st.integers(3, 17)), draw(st.integers(3, 17)))
    images = list(inputs)
    for _ in range(draw(st.integers(1, longest))):
        images.append(_step(draw, writer, images))
    outputs = [_tail(draw, writer, images[-1])]
    outputs += [name for name in images if name not in inputs and name not in outputs and draw(st.integers(0, 5)) == 0]
    return writer.model(inputs, outputs[:3])


def _step(draw: st.DrawFn, writer: GraphWriter, images: list[str]) -> str:
    """One more image tensor, made of a recent one (so that chains grow) and maybe of an older one."""
    recent = images[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(images))
    kind = draw(st.sampled_from(_STEPS))
    if kind in ("conv", "depthwise"):
        return _convolution(draw, writer, recent, kind == "depthwise")
    if kind == "pool":
        return _pool(draw, writer, recent)
    if kind == "norm":
        channels = writer.shapes[recent][1]
        parameters = [writer.weight(channels, scale=0.2, offset=offset) for offset in (1.0, 0.0, 0.0)]
        name = f"w{len(writer.initializers)}"
        variance = writer.random.uniform(0.5, 1.5, channels).astype(np.float32)
        writer.initializers.append(numpy_helper.from_array(variance, name))
        return writer.add("BatchNormalization", [recent, *parameters, name], writer.shapes[recent])
    if kind == "join":
        return _join(draw, writer, recent, images)
    if kind == "scale":
        channels = writer.shapes[recent][1]
        shape = draw(st.sampled_from(((1, channels, 1, 1), (channels, 1, 1), (1,), writer.shapes[recent][2:])))
        return writer.add(draw(st.sampled_from(("Add", "Mul", "Sub"))), [recent, writer.weight(*shape)])
    if kind == "gate":  # squeeze and excitation
        pooled = writer.add(draw(st.sampled_from(("GlobalAveragePool", "GlobalMaxPool"))), [recent])
        return writer.add("Mul", [recent, writer.add("Sigmoid", [pooled])])
    return writer.add(draw(st.sampled_from(_UNARY)), [recent], writer.shapes[recent])


def _window(draw: st.DrawFn, size: tuple[int, int], dilate: bool) -> dict[str, Any] | None:
    """Kernel, strides, dilations and pads that fit an image; None when nothing was found."""
    kernel = [draw(st.integers(1, 4)) for _ in size]
    strides = [draw(st.sampled_from((1, 1, 2, 3))) for _ in size]
    dilations = [draw(st.sampled_from((1, 1, 2))) if dilate else 1 for _ in size]
    pads = [draw(st.integers(0, max(0, k - 1))) for k in (*kernel, *kernel)]
    window = {"kernel_shape": kernel, "strides": strides}
    if dilate:
        window["dilations"] = dilations
    # onnxruntime has no SAME padding for dilated windows, nor for strides longer than the window.
    plain = max(dilations) == 1 and all(s <= k for s, k in zip(strides, kernel, strict=True))
    if plain and draw(st.integers(0, 2)) == 0:
        return {**window, "auto_pad": draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER")))}
    for axis, length in enumerate(size):
        if length + pads[axis] + pads[axis + 2] < (kernel[axis] - 1) * dilations[axis] + 1:
            return None
    return {**window, "pads": pads}


def _convolution(draw: st.DrawFn, writer: GraphWriter, image: str, depthwise: bool) -> str:
    _, channels, height, width = writer.shapes[image]
    window = _window(draw, (height, width), dilate=True)
    if window is None:
        return writer.add("Relu", [image], writer.shapes[image])
    groups = channels if depthwise else draw(st.sampled_from([g for g in (1, 1, 2, 3) if channels % g == 0]))
    filters = groups * draw(st.integers(1, 2 if depthwise else 4))
    kernel = window["kernel_shape"]
    scale = (channels // groups * kernel[0] * kernel[1]) ** -0.5
    inputs = [image, writer.weight(filters, channels // groups, *kernel, scale=scale)]
    if draw(st.booleans()):
        inputs.append(writer.weight(filters, scale=0.3))
    return writer.add("Conv", inputs, group=groups, **window)


def _pool(draw: st.DrawFn, writer: GraphWriter, image: str) -> str:
    average = draw(st.booleans())
    window = _window(draw, writer.shapes[image][2:], dilate=not average)  # type: ignore[arg-type]
    if window is None:
        return writer.add("Relu", [image], writer.shapes[image])
    if "pads" in window and window["strides"] <= window["kernel_shape"] and draw(st.booleans()):
        window["ceil_mode"] = 1
    if average and draw(st.booleans()):
        window["count_include_pad"] = 1
    return writer.add("AveragePool" if average else "MaxPool", [image], **window)


def _join(draw: st.DrawFn, writer: GraphWriter, recent: str, images: list[str]) -> str:
    """Add, multiply or concatenate with another tensor of a fitting shape; itself, if there is no other."""
    shape = writer.shapes[recent]
    alike = [name for name in images if writer.shapes[name] == shape]
    axis = draw(st.integers(1, 3))
    elsewhere = shape[:axis] + shape[axis + 1 :]
    fitting = [name for name in images if writer.shapes[name][:axis] + writer.shapes[name][axis + 1 :] == elsewhere]
    if draw(st.booleans()):
        other = draw(st.sampled_from(alike))
        if draw(st.booleans()):
            return writer.add("Add", [recent, other], shape)
        return writer.add("Mul", [recent, writer.add("Sigmoid", [other], shape)], shape)  # products stay small
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))
    return writer.add("Concat", [recent, *others], axis=axis)


def _tail(draw: st.DrawFn, writer: GraphWriter, image: str) -> str:
    """What comes after the last image: nothing, or a classifier."""
    kind = draw(st.sampled_from(("image", "flatten", "pooled", "reshape")))
    batch, channels, height, width = writer.shapes[image]
    if kind == "image":
        return image if writer.nodes else writer.add("Identity", [image])
    if kind == "pooled":
        image = writer.add("GlobalAveragePool", [image])
        height = width = 1
    if kind == "reshape":
        flat = writer.add("Reshape", [image, writer.integers(batch, -1)], (batch, channels * height * width))
    else:
        flat = writer.add("Flatten", [image], (batch, channels * height * width))
    features = writer.shapes[flat][1]
    classes = draw(st.integers(1, 7))
    if draw(st.booleans()):
        weight = writer.weight(classes, features, scale=features**-0.5)
        scores = writer.add("Gemm", [flat, weight, writer.weight(classes)], (batch, classes), transB=1)
    else:
        scores = writer.add("MatMul", [flat, writer.weight(features, classes, scale=features**-0.5)], (batch, classes))
    if draw(st.booleans()):
        return writer.add("Softmax", [scores], (batch, classes), axis=draw(st.sampled_from((1, -1))))
    return scores
