"""A typed, append-only writer of ONNX graphs.

Weights go straight into the one `ModelProto` that is returned: `helper.make_graph` and `make_model` would each
copy every initializer once more, which for BERT-base is 440 MB a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NewType

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

OPSET = 17
IR_VERSION = 8

Value = NewType("Value", str)
"""Name of a tensor inside the graph under construction."""

Dimension = int | str
"""A fixed extent, or the name of a symbolic one."""


class GraphBuilder:
    """Appends inputs, weights, nodes and outputs to a model, each under a name the caller chooses.

    Names follow the PyTorch exporter: a node is `/layer1/conv/Conv`, its output `/layer1/conv/Conv_output_0`, a
    weight `layer1.conv.weight`. A name used twice is an error, because ONNX demands single assignment.
    """

    def __init__(self, graph_name: str) -> None:
        self._model = helper.make_model(
            helper.make_graph([], graph_name, [], []),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="flexpie_models",
        )
        self._values: set[str] = set()
        self._nodes: set[str] = set()

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[Dimension]) -> Value:
        """Declare a graph input."""
        self._model.graph.input.append(_value_info(name, dtype, shape))
        return self._claim(name)

    def weight(self, name: str, array: npt.NDArray[Any]) -> Value:
        """Store `array` as an initializer, little-endian raw data as ONNX prescribes."""
        tensor = self._model.graph.initializer.add()
        tensor.name = name
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype.newbyteorder("="))
        tensor.dims.extend(array.shape)
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return self._claim(name)

    def constant(self, name: str, value: npt.NDArray[Any]) -> Value:
        """Emit a `Constant` node, the form in which PyTorch exports scalars and shapes."""
        return self.node("Constant", name=name, value=onnx.numpy_helper.from_array(value))

    def node(self, op_type: str, *inputs: Value, name: str, output: str | None = None, **attributes: Any) -> Value:
        """Append a node with one output, called `output` or, without it, `<name>_output_0`."""
        if name in self._nodes:
            raise ValueError(f"node name {name!r} is used twice")
        for value in inputs:
            if value and value not in self._values:
                raise ValueError(f"node {name!r} reads {value!r}, which nothing before it produces")
        self._nodes.add(name)
        result = self._claim(output or f"{name}_output_0")
        self._model.graph.node.append(helper.make_node(op_type, list(inputs), [result], name=name, **attributes))
        return result

    def output(self, value: Value, dtype: npt.DTypeLike, shape: Sequence[Dimension]) -> None:
        """Declare an already produced value a graph output."""
        if value not in self._values:
            raise ValueError(f"graph output {value!r} is not produced by any node")
        self._model.graph.output.append(_value_info(value, dtype, shape))

    def model(self) -> onnx.ModelProto:
        """The model built so far: not a copy, so the builder is not to be used after this call."""
        return self._model

    def _claim(self, name: str) -> Value:
        if name in self._values:
            raise ValueError(f"value name {name!r} is used twice")
        self._values.add(name)
        return Value(name)


def scope_of(module: str) -> str:
    """Scope of the nodes of a module: `layer1.0.conv1` → `/layer1/0/conv1`."""
    return "/" + module.replace(".", "/")


def _value_info(name: str, dtype: npt.DTypeLike, shape: Sequence[Dimension]) -> onnx.ValueInfoProto:
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element_type, list(shape))
