"""A model of very many small operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

NODES_PER_BLOCK = 5
CHANNELS, SIDE = 8, 16


def deep_model(path: Path, nodes: int, seed: int = 0) -> Path:
    """`image` float32 [1, 8, 16, 16] → `tokens` [1, 256, 8]: a chain of residual blocks of `NODES_PER_BLOCK` operators
    each, one half of them around convolutions, the other around matrix products."""
    blocks = -(-(nodes - 1) // NODES_PER_BLOCK)
    builder = _Builder(np.random.default_rng(seed))
    tensor = "image"
    for index in range(blocks // 2):
        tensor = builder.block(f"conv{index}", tensor, "Conv", (CHANNELS, CHANNELS, 3, 3))
    builder.add("Reshape", [tensor, builder.weight("shape", np.array([1, SIDE * SIDE, CHANNELS]))], "sequence")
    tensor = "sequence"
    for index in range(blocks - blocks // 2):
        tensor = builder.block(f"matmul{index}", tensor, "MatMul", (CHANNELS, CHANNELS))
    builder.nodes[-1].output[0] = "tokens"
    graph = helper.make_graph(
        builder.nodes,
        "deep",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, SIDE * SIDE, CHANNELS])],
        builder.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


class _Builder:
    def __init__(self, generator: np.random.Generator) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self._generator = generator

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: npt.NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def block(self, name: str, tensor: str, op_type: str, shape: tuple[int, ...]) -> str:
        """x + scale · tanh(relu(operator(x, w))): stays small, however many follow one another."""
        values = self._generator.standard_normal(shape).astype(np.float32)
        operands = [tensor, self.weight(f"{name}/w", values / np.sqrt(values[0].size, dtype=np.float32))]
        pads = {"pads": [1, 1, 1, 1]} if op_type == "Conv" else {}
        linear = self.add(op_type, operands, f"{name}/linear", **pads)
        active = self.add("Relu", [linear], f"{name}/relu")
        bounded = self.add("Tanh", [active], f"{name}/tanh")
        scale = self.weight(f"{name}/scale", np.array(self._generator.uniform(-0.1, 0.1), np.float32))
        scaled = self.add("Mul", [bounded, scale], f"{name}/scaled")
        return self.add("Add", [tensor, scaled], f"{name}/out")
