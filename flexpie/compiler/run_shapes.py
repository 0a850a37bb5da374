"""Shapes that onnxruntime yields where ONNX infers others: FlexPie promises onnxruntime's numbers.

They differ where a length is rounded: windows at the end of a pool with `ceil_mode`, and lengths of a Resize with
scales, which onnxruntime computes in single precision.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from flexpie.compiler.ceil_mode import pool_shape, settle_ceil_mode
from flexpie.compiler.weights import weight_values
from flexpie.core.tensor import Shape

_SCALES_INPUT = {"Upsample": 1, "Resize": 2}


def settle_shapes(model: ir.Model, settled: dict[str, Shape]) -> bool:
    """Find the first node whose inferred output is not what onnxruntime yields, and rewrite it so that it is; where
    that cannot be, add its true shape to `settled`, by the name of the output. Returns whether there was one.

    requires: inferred shapes, topological order. Only up to the node that is found are they right: they have to be
    inferred again, and then this again.
    """
    for node in model.graph:
        if node.domain:
            continue
        if settle_ceil_mode(node):
            return True
        output = node.outputs[0] if len(node.outputs) == 1 else None
        if output is None or not output.name or output.name in settled:
            continue
        shape = pool_shape(node) or _resized_shape(node)
        if shape is not None and 0 not in shape and output.shape is not None and tuple(output.shape) != shape:
            settled[output.name] = shape
            return True
    return False


def show_settled(proto: onnx.ModelProto, settled: Mapping[str, Shape]) -> None:
    """Let inference find these shapes: each of the nodes is replaced, in place, by one that yields nothing else."""
    for node in proto.graph.node:
        if node.output and node.output[0] in settled:
            name, target = node.output[0], f"{node.output[0]}/shape"
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(settled[name], np.int64), target))
            node.CopyFrom(onnx.helper.make_node("Reshape", [node.input[0], target], [name]))


def _resized_shape(node: ir.Node) -> Shape | None:
    """The output's shape of a Resize or Upsample with known scales of a tensor of known shape; None for others."""
    scales = _scales(node)
    image = node.inputs[0] if node.inputs else None
    if scales is None or image is None or image.shape is None or not image.shape.is_static():
        return None
    lengths = [int(dim) for dim in image.shape if isinstance(dim, int)]
    if len(scales) != len(lengths):  # of some axes only: nothing is known of how those are rounded
        return None
    return tuple(int(np.float32(length) * scale) for length, scale in zip(lengths, scales, strict=True))


def _scales(node: ir.Node) -> np.ndarray | None:
    if node.op_type not in _SCALES_INPUT:
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return None  # sizes are given instead
    if "scales" in node.attributes:
        return np.array(node.attributes.get_floats("scales"), np.float32)
    at = 1 if len(node.inputs) == 2 else _SCALES_INPUT[node.op_type]
    value = node.inputs[at] if at < len(node.inputs) else None
    known = None if value is None else ir.convenience.get_const_tensor(value)
    if known is None or known.size == 0 or len(known.shape) != 1:
        return None
    return weight_values(known).astype(np.float32)
