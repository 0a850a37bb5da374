"""The models that calibration runs: chains of one operator, long and short, whose difference is the operator alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHORT, LONG = 4, 16
"""Steps of the two chains of each kernel. What a run costs besides its steps is in both."""
NODES_PER_STEP = 16
"""Of the kernels of small nodes."""


def kernel_model(name: str, steps: int) -> onnx.ModelProto:
    """A chain of `steps` steps of the kernel with this name, one of `KERNELS`.

    Each step has weights of its own, since those of a real model are not in the first cache either.
    """
    chain = _Chain(steps)
    _BUILDERS[name](chain)
    return chain.model(name)


class _Chain:
    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._shape: tuple[int, ...] = ()
        self._last = "x"
        self._rng = np.random.default_rng(0)

    def begin(self, *shape: int) -> None:
        """The input, and the shape of every step's result."""
        self._shape = shape

    def weight(self, *shape: int) -> str:
        """A weight that keeps the size of what it is multiplied with about the same."""
        scale = np.sqrt(shape[0] / np.prod(shape)) if len(shape) > 2 else np.sqrt(1 / shape[0])
        values = self._rng.standard_normal(shape, np.float32) * np.float32(scale)
        return self._initializer(values)

    def integers(self, *values: int) -> str:
        """A vector of int64."""
        return self._initializer(np.array(values, np.int64))

    def _initializer(self, array: np.ndarray) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op_type: str, *others: str, twice: bool = False, **attributes: Any) -> None:
        """An operator on the last result (given twice with `twice`) and others."""
        name = f"{op_type.lower()}{len(self._nodes)}"
        inputs = [self._last, self._last] if twice else [self._last]
        self._nodes.append(helper.make_node(op_type, [*inputs, *others], [name], name=name, **attributes))
        self._last = name

    def model(self, name: str) -> onnx.ModelProto:
        """What was added."""
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, self._shape) for end in ("x", self._last)]
        graph = helper.make_graph(self._nodes, name, ends[:1], ends[1:], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def _dense(chain: _Chain) -> None:
    chain.begin(1, 128, 28, 28)
    for _ in range(chain.steps):
        chain.add("Conv", chain.weight(128, 128, 3, 3), pads=[1] * 4)


def _depthwise(chain: _Chain) -> None:
    chain.begin(1, 128, 28, 28)
    for _ in range(chain.steps * 4):
        chain.add("Conv", chain.weight(128, 1, 3, 3), pads=[1] * 4, group=128)


def _matrix(chain: _Chain) -> None:
    chain.begin(1, 128, 512)
    for _ in range(chain.steps):
        chain.add("MatMul", chain.weight(512, 512))


def _element(chain: _Chain) -> None:
    chain.begin(1, 12, 64, 128)
    for _ in range(chain.steps * 2):
        chain.add("Softmax", axis=-1)


def _memory(chain: _Chain) -> None:
    chain.begin(1, 64, 28, 28)
    starts, ends, axes = chain.integers(32), chain.integers(96), chain.integers(1)
    for _ in range(chain.steps * 2):
        chain.add("Concat", twice=True, axis=1)
        chain.add("Slice", starts, ends, axes)


def _node(chain: _Chain) -> None:
    chain.begin(1, 8)
    for _ in range(chain.steps * NODES_PER_STEP):
        chain.add("Sigmoid")


def _node_of_four(chain: _Chain) -> None:
    chain.begin(1, 8, 1, 1)
    for _ in range(chain.steps * NODES_PER_STEP):
        chain.add("Conv", chain.weight(8, 8, 1, 1), chain.weight(8))


_BUILDERS: dict[str, Callable[[_Chain], None]] = {
    "dense": _dense,
    "depthwise": _depthwise,
    "matrix": _matrix,
    "element": _element,
    "memory": _memory,
    "node": _node,
}
KERNELS = tuple(_BUILDERS)
"""Names of the kernels, one for each rate of computing in `flexpie.core.rates.DeviceRates`."""
_BUILDERS["node_of_four"] = _node_of_four
"""Nodes with four tensors instead of two, to find out what a profiler takes for each."""
