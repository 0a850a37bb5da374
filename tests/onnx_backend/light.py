"""The nine models of the onnx package that come without their weights, given random ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from flexpie.compiler import ImportedModel
from flexpie.core.plan import Plan
from flexpie.pipeline import compile_plan
from flexpie.worker.inprocess import InProcessCluster


def with_random_weights(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """The model with seeded weights instead of the nodes that fill them with one number; activations keep their scale.

    What a BatchNormalization divides by stays positive. A Softmax at the end would hide differences: its input
    becomes the output.
    """
    generator = np.random.default_rng(seed)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    filled = {node.output[0]: tuple(shapes[node.input[0]]) for node in model.graph.node
              if node.op_type == "ConstantOfShape"}  # fmt: skip
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(node for node in model.graph.node if node.op_type != "ConstantOfShape")
    known = {tensor.name for tensor in made.graph.initializer}
    inputs = [info for info in made.graph.input if info.name not in known]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    made.ir_version = 8  # initializers need not be inputs
    last = made.graph.node[-1]
    if last.op_type == "Softmax":
        made.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=last.input[0]))
        del made.graph.node[-1]
    for name, shape in filled.items():
        made.graph.initializer.append(numpy_helper.from_array(_weight(shape, generator), name))
    return made


def _weight(shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    if len(shape) < 2:
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = float(np.prod(shape[1:]))
    weight: npt.NDArray[np.float32] = generator.standard_normal(shape, np.float32)
    weight *= np.sqrt(2.0 / fan_in)
    return weight


def random_image(model: onnx.ModelProto, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """The model's only input."""
    known = {tensor.name for tensor in model.graph.initializer}
    (info,) = [info for info in model.graph.input if info.name not in known]
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    return {info.name: np.random.default_rng(seed).standard_normal(shape, np.float32)}


def load_split(model: ImportedModel, plan: Plan) -> InProcessCluster:
    """A plan's devices; packages go by way of files, as they are larger than one wants in memory twice."""
    compiled = compile_plan(model, plan)
    with tempfile.TemporaryDirectory() as folder:
        for sha256, blob in compiled.blobs.items():
            (Path(folder) / sha256).write_bytes(blob.open())
        return InProcessCluster(compiled.programs, compiled.master, folder)


def close(expected: Sequence[Any], actual: Sequence[Any]) -> bool:
    """Within 1e-4, or 1e-5 of the largest output."""
    return all(
        bool(np.allclose(one, other, rtol=0, atol=max(1e-4, 1e-5 * float(np.abs(one).max()))))
        for one, other in zip(expected, actual, strict=True)
    )
