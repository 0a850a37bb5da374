"""A package for two devices, small enough to read in full.

The model is y = 2x, then z[i] = y[i] + y[i+1] + y[i+2]: eight elements in, six out. Device 0 owns x[0:4] and z[0:3],
device 1 the rest; in between each sends the other one element of y.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flexpie.core.program import (
    MASTER,
    Assemble,
    BlobRef,
    DeviceProgram,
    Feed,
    Part,
    Receive,
    Release,
    Run,
    Send,
    SubgraphRef,
    Value,
)
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.tensors import Array
from flexpie.worker.engine import FakeEngine, FakeModel, Port

FLOAT = ElementType.FLOAT32
X = np.arange(8, dtype=np.float32)
Z = np.array([2 * (i + i + 1 + i + 2) for i in range(6)], np.float32)
"""What the model answers to `X`."""


@dataclass(frozen=True)
class Package:
    """Programs and everything that they refer to."""

    programs: tuple[DeviceProgram, ...]
    master: DeviceProgram
    blobs: dict[str, bytes]
    """By SHA-256."""


def value(tensor: str, start: int, stop: int) -> Value:
    """A piece of one of the model's vectors."""
    return Value(tensor, Region.of((start, stop)), FLOAT)


def part(index: int, start: int, stop: int) -> Part:
    """A piece of a value."""
    return Part(index, Region.of((start, stop)))


def device_program(device: int, subgraphs: Sequence[SubgraphRef] = ()) -> DeviceProgram:
    """What device 0 or 1 does."""
    own, window, halo, out = ((0, 4), (0, 5), (4, 5), (0, 3)) if device == 0 else ((4, 8), (3, 8), (3, 4), (3, 6))
    edge = (3, 4) if device == 0 else (4, 5)
    values = (value("x", *own), value("y", *own), value("y", *halo), value("y", *window), value("z", *out))
    steps = (
        Receive(0, MASTER, (0,)),
        Run(0, (0,), (1,)),
        Send(1, 1 - device, (part(1, *edge),)),
        Release((0,)),
        Receive(1, 1 - device, (2,)),
        Assemble(3, (part(1, *own), part(2, *halo))),
        Run(1, (3,), (4,)),
        Send(2, MASTER, (part(4, *out),)),
        Release((1, 2, 3, 4)),
    )
    return DeviceProgram(device, values, steps, subgraphs=tuple(subgraphs) or (_FAKE_DOUBLE, _FAKE_WINDOW))


def master_program() -> DeviceProgram:
    """What the master does."""
    values = (value("x", 0, 8), value("z", 0, 3), value("z", 3, 6), value("z", 0, 6))
    steps = (
        Feed(0),
        Send(0, 0, (part(0, 0, 4),)),
        Send(0, 1, (part(0, 4, 8),)),
        Release((0,)),
        Receive(2, 0, (1,)),
        Receive(2, 1, (2,)),
        Assemble(3, (part(1, 0, 3), part(2, 3, 6))),
    )
    return DeviceProgram(MASTER, values, steps, outputs=(3,))


def onnx_package() -> Package:
    """The package with real ONNX subgraphs, one of which has its weight in a blob."""
    weight = np.full(4, 2, np.float32).tobytes()
    blobs = {digest(content): content for content in (weight, _double_model(weight), _window_model())}
    double = SubgraphRef("double", ref(_double_model(weight)), (ref(weight),))
    subgraphs = (double, SubgraphRef("window", ref(_window_model()), ()))
    return Package((device_program(0, subgraphs), device_program(1, subgraphs)), master_program(), blobs)


def fake_package() -> Package:
    """The package for `fake_engine`."""
    blobs = {digest(content): content for content in (DOUBLE, WINDOW)}
    return Package((device_program(0), device_program(1)), master_program(), blobs)


def fake_engine() -> FakeEngine:
    """An engine that knows the models of `fake_package`."""
    return FakeEngine(
        {
            DOUBLE: FakeModel(_ports(x=4), _ports(y=4), lambda arrays: [arrays[0] * 2]),
            WINDOW: FakeModel(_ports(y=5), _ports(z=3), lambda arrays: [_windows(arrays[0])]),
        }
    )


def digest(content: bytes) -> str:
    """SHA-256, lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def ref(content: bytes) -> BlobRef:
    """Hash and size."""
    return BlobRef(digest(content), len(content))


def _ports(**lengths: int) -> tuple[Port, ...]:
    return tuple(Port(name, (length,), FLOAT) for name, length in lengths.items())


def _windows(y: Array) -> Array:
    windows: Array = y[:-2] + y[1:-1] + y[2:]
    return windows


def _double_model(weight: bytes) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=digest(weight))
    tensor.external_data.add(key="length", value=str(len(weight)))
    return _model([helper.make_node("Mul", ["x", "w"], ["y"])], "x", 4, "y", 4, [tensor])


def _window_model() -> bytes:
    bounds = [numpy_helper.from_array(np.array([n]), f"n{n}") for n in range(6)]
    nodes = [helper.make_node("Slice", ["y", f"n{n}", f"n{n + 3}"], [f"s{n}"]) for n in range(3)]
    nodes += [helper.make_node("Add", ["s0", "s1"], ["s"]), helper.make_node("Add", ["s", "s2"], ["z"])]
    return _model(nodes, "y", 5, "z", 3, bounds)


def _model(
    nodes: list[onnx.NodeProto], x: str, x_length: int, y: str, y_length: int, weights: list[TensorProto]
) -> bytes:
    inputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [x_length])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [y_length])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString(deterministic=True))


DOUBLE, WINDOW = (b"\x12\x06double", b"\x12\x06window")  # a producer's name: the smallest model that is one
_FAKE_DOUBLE = SubgraphRef("double", ref(DOUBLE), ())
_FAKE_WINDOW = SubgraphRef("window", ref(WINDOW), ())
