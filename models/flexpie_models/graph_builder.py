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

ABSENT = Value("")
"""An optional input that is left out."""

LAST = 2**63 - 1
"""What the exporter writes for the open end of a slice."""


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

    def ints(self, name: str, values: Sequence[int]) -> Value:
        """A `Constant` node of int64 [len(values)]."""
        return self.constant(name, np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> Value:
        """A `Constant` node of one float32 without axes."""
        return self.constant(name, np.array(value, np.float32))

    def node(self, op_type: str, *inputs: Value, name: str, output: str | None = None, **attributes: Any) -> Value:
        """Append a node with one output, called `output` or, without it, `<name>_output_0`."""
        [result] = self._append(op_type, inputs, name, [output or f"{name}_output_0"], attributes)
        return result

    def split(self, value: Value, sizes: Sequence[int], *, name: str, axis: int) -> list[Value]:
        """Append a `Split` into parts of the given sizes."""
        outputs = [f"{name}_output_{index}" for index in range(len(sizes))]
        return self._append("Split", (value, self.ints(f"{name}/sizes", sizes)), name, outputs, {"axis": axis})

    def slice(self, value: Value, *, name: str, axis: int, start: int, stop: int = LAST, step: int = 1) -> Value:
        """Append a `Slice` of one axis, as the exporter writes each index of `x[:, a:b]`."""
        bounds = [
            self.ints(f"{name}/{part}", [number])
            for part, number in (("starts", start), ("ends", stop), ("axes", axis), ("steps", step))
        ]
        return self.node("Slice", value, *bounds, name=name)

    def reshape(self, value: Value, dims: Sequence[Dimension], *, name: str, like: Value | None = None) -> Value:
        """Append a `Reshape` to `dims`, see `shape`; symbols are the extents of `like` or, without it, of `value`."""
        return self.node("Reshape", value, self.shape(dims, f"{name}/shape", like or value), name=name, allowzero=0)

    def shape(self, dims: Sequence[Dimension], name: str, like: Value) -> Value:
        """`dims` as int64 [len(dims)]: a Constant, or the Shape, Gather, Unsqueeze, Concat chain of the exporter.

        A symbol at position i stands for the extent of axis i of `like`.
        """
        fixed = [size for size in dims if isinstance(size, int)]
        if len(fixed) == len(dims):
            return self.ints(name, fixed)
        parts = [
            self.ints(f"{name}/size_{axis}", [size]) if isinstance(size, int) else self.extent(like, axis, name)
            for axis, size in enumerate(dims)
        ]
        return self.node("Concat", *parts, name=f"{name}/Concat", axis=0)

    def extent(self, value: Value, axis: int, scope: str) -> Value:
        """Length of one axis of `value` as an int64 [1], computed when the model runs."""
        shape = self.node("Shape", value, name=f"{scope}/Shape_{axis}")
        index = self.constant(f"{scope}/Index_{axis}", np.array(axis, np.int64))
        extent = self.node("Gather", shape, index, name=f"{scope}/Gather_{axis}", axis=0)
        return self.node("Unsqueeze", extent, self.ints(f"{scope}/Axes_{axis}", [0]), name=f"{scope}/Unsqueeze_{axis}")

    def output(self, value: Value, dtype: npt.DTypeLike, shape: Sequence[Dimension]) -> None:
        """Declare an already produced value a graph output."""
        if value not in self._values:
            raise ValueError(f"graph output {value!r} is not produced by any node")
        self._model.graph.output.append(_value_info(value, dtype, shape))

    def model(self) -> onnx.ModelProto:
        """The model built so far: not a copy, so the builder is not to be used after this call."""
        return self._model

    def _append(
        self, op_type: str, inputs: Sequence[Value], name: str, outputs: Sequence[str], attributes: dict[str, Any]
    ) -> list[Value]:
        if name in self._nodes:
            raise ValueError(f"node name {name!r} is used twice")
        for value in inputs:
            if value and value not in self._values:
                raise ValueError(f"node {name!r} reads {value!r}, which nothing before it produces")
        self._nodes.add(name)
        results = [self._claim(output) for output in outputs]
        self._model.graph.node.append(helper.make_node(op_type, inputs, results, name=name, **attributes))
        return results

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
