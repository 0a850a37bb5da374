"""A small model with a residual connection, in channels that onnxruntime lays out in blocks."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flexpie.compiler import ImportedModel
from tests.splitting import imported


def residual_model() -> ImportedModel:
    """stem Conv+Relu, Conv+Relu, Conv+Add+Relu, head Conv; 16 channels of 16×16."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((16, 16, 3, 3), np.float32), f"w{index}") for index in range(4)
    ]

    def conv(index: int, source: str, target: str) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, f"w{index}"], [target], name=target, pads=[1] * 4)

    def relu(source: str, target: str) -> onnx.NodeProto:
        return helper.make_node("Relu", [source], [target], name=target)

    nodes = [
        *(conv(0, "x", "c0"), relu("c0", "r0"), conv(1, "r0", "c1"), relu("c1", "r1"), conv(2, "r1", "c2")),
        helper.make_node("Add", ["c2", "r0"], ["sum"], name="sum"),
        *(relu("sum", "r2"), conv(3, "r2", "y")),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 16, 16, 16)) for name in "xy"]
    graph = helper.make_graph(nodes, "residual", ends[:1], ends[1:], weights)
    return imported(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
