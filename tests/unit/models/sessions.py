"""Running a model and counting what it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Tensor = npt.NDArray[Any]

_WEIGHT = dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), 1) | dict.fromkeys(("QLinearConv", "QGemm"), 3)
"""Which input of an operator holds its weights."""


def open_session(model: onnx.ModelProto, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: Mapping[str, Tensor]) -> list[npt.NDArray[np.float32]]:
    """All outputs of one inference."""
    outputs: list[npt.NDArray[np.float32]] = open_session(model).run(None, dict(feeds))
    return outputs


def weight_layers(model: onnx.ModelProto) -> int:
    """Nodes that multiply by an initializer, integer ones and such behind a DequantizeLinear included."""
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {
        node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored
    }
    return sum(node.input[_WEIGHT[node.op_type]] in stored for node in model.graph.node if node.op_type in _WEIGHT)


def learnable_parameters(model: onnx.ModelProto) -> int:
    """Numbers in floating-point initializers, the running statistics of BatchNormalization left out; of a quantised
    model the numbers in the initializers that the quantiser wrote."""
    quantised = [math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.name.endswith("_quantized")]
    return sum(quantised) or sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and ".running_" not in tensor.name
    )


def shapes(values: Any) -> dict[str, list[int | str]]:
    """Name → shape of graph inputs or outputs, symbols as text."""
    return {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in values
    }


def rounding(model: onnx.ModelProto, feeds: Mapping[str, Tensor]) -> float:
    """Largest difference that the graph optimisations of onnxruntime make, relative to the largest output or to 1."""
    optimised = run(model, feeds)
    plain = open_session(model, optimised=False).run(None, dict(feeds))
    return max(
        float(np.abs(one - other).max() / max(1.0, np.abs(one).max()))
        for one, other in zip(optimised, plain, strict=True)
    )
