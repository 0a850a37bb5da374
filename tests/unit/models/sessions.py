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
    """Conv, Gemm and MatMul nodes whose second input is an initializer."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return sum(node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in stored for node in model.graph.node)


def learnable_parameters(model: onnx.ModelProto) -> int:
    """Numbers in floating-point initializers, the running statistics of BatchNormalization left out."""
    return sum(
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
