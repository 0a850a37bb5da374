"""Small models for tests of a whole system: quick to deploy, with everything that a protocol can get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]

IMAGE_SHAPE = (1, 3, 16, 12)
TYPES = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
         "uint64", "bool")  # fmt: skip
"""Element types of `every_type`'s inputs, which are named after them."""


def save(graph: onnx.GraphProto, path: Path, **options: Any) -> Path:
    """Write a model that onnx finds valid."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path), **options)
    return path


def convolutions(path: Path, *, seed: int = 1, **options: Any) -> Path:
    """`image` float32 [1, 3, 16, 12] → `scores` [1, 5, 16, 12]: two convolutions, every row depends on others."""
    generator = np.random.default_rng(seed)
    weights = [
        ("w1", generator.standard_normal((7, 3, 3, 3))),
        ("w2", generator.standard_normal((5, 7, 3, 3))),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["scores"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, IMAGE_SHAPE)],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, (1, 5, 16, 12))],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights],
    )
    return save(graph, path, **options)


def convolutions_of_any_batch(path: Path, *, seed: int = 1) -> Path:
    """`convolutions` whose first dimension is open."""
    proto = onnx.load(convolutions(path, seed=seed))
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, str(path))
    return path


def large_weight(path: Path) -> Path:
    """`x` float32 [batch, 1024] → `y` [batch, 1024], with 4 MiB of weights."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large_weight",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ("batch", 1024))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("batch", 1024))],
        [numpy_helper.from_array(np.ones((1024, 1024), np.float32), "w")],
    )
    return save(graph, path)


def every_type(path: Path) -> Path:
    """One input [2, 3] of each of `TYPES`, and each of them again as output `<type>_out`."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in TYPES}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES],
        "every_type",
        [helper.make_tensor_value_info(name, kind, (2, 3)) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(f"{name}_out", kind, (2, 3)) for name, kind in kinds.items()],
    )
    return save(graph, path)


def two_outputs(path: Path, rows: int = 4) -> Path:
    """`x` float32 [rows, 3] → `twice` and `negative`; with 0 rows nothing but shapes."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Neg", ["x"], ["negative"])],
        "two_outputs",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (rows, 3))],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (rows, 3)) for name in ("twice", "negative")],
    )
    return save(graph, path)


def random_image(seed: int = 0, batch: int = 1) -> Array:
    """An input of `convolutions`."""
    shape = (batch, *IMAGE_SHAPE[1:])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run_unsplit(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    """What onnxruntime alone answers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def endless_loop(path: Path, *, ends_on: bool = False) -> Path:
    """`x` float32 [4] and `go` bool [] → `y`: x plus one, again and again for ever, unless `go` is `ends_on`."""
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "one"], ["more"]), helper.make_node("Identity", ["on"], ["still_on"])],
        "body",
        [
            helper.make_tensor_value_info("iteration", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("still_on", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [4]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Not" if ends_on else "Identity", ["go"], ["begin"]),
            helper.make_node("Loop", ["", "begin", "x"], ["y"], body=body),
        ],
        "endless_loop",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    return save(graph, path)
