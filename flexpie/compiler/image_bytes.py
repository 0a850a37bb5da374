"""Models that take images as bytes: a quarter of what floats take on the way to the devices, which convert them.

The conversion is a few element-wise operators in front of the model. They are divided as its first layers are, so that
every device is sent just the bytes that it needs, and converts just those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flexpie.core.errors import ErrorCode, FlexPieError

_PREFIX = "flexpie_bytes_"


def take_image_bytes(
    model: onnx.ModelProto, mean: Sequence[float] = (), std: Sequence[float] = (), name: str = ""
) -> onnx.ModelProto:
    """A model that takes uint8 where `model` takes float32: the input is (x / 255 - mean) / std of bytes x.

    `mean` and `std` have one value for each channel, or one for all, or none (0 and 1). Channels are the axis behind
    the first, [N, C, H, W]. `name` is the input's; it may be left away where there is only one.

    Raises ``INVALID_ARGUMENT`` for an input that there is not or that does not hold floats, and for values that fit no
    channels.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    given = {initializer.name for initializer in graph.initializer}
    inputs = [port for port in graph.input if port.name not in given]
    if not name and len(inputs) != 1:
        raise _wrong(f"The model has {len(inputs)} inputs.", "Name the one that takes the image.")
    port = next((port for port in inputs if port.name == (name or inputs[0].name)), None)
    if port is None:
        raise _wrong(f"The model has no input {name!r}.", f"Its inputs: {', '.join(p.name for p in inputs)}.")
    kind = port.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) < 2:
        raise _wrong(f"The input {port.name} does not hold float32 images.", "Only such inputs can be given as bytes.")
    scale, offset = _constants(mean, std, kind.shape.dim[1].dim_value, len(kind.shape.dim))
    floats, scaled, original = (f"{_PREFIX}{what}" for what in ("floats", "scaled", "image"))
    _rename_reads(graph, port.name, original)
    nodes = [
        helper.make_node("Cast", [port.name], [floats], f"{_PREFIX}cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [floats, f"{_PREFIX}scale"], [scaled], f"{_PREFIX}mul"),
        helper.make_node("Add", [scaled, f"{_PREFIX}offset"], [original], f"{_PREFIX}add"),
    ]
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    graph.initializer.append(numpy_helper.from_array(scale, f"{_PREFIX}scale"))
    graph.initializer.append(numpy_helper.from_array(offset, f"{_PREFIX}offset"))
    kind.elem_type = TensorProto.UINT8
    return changed


def write_with_image_bytes(
    source: Path, target: Path, mean: Sequence[float] = (), std: Sequence[float] = (), name: str = ""
) -> None:
    """Do so with a file; `target` is written. External data stays where it is, and so must `target`.

    Raises as `take_image_bytes`, and ``INVALID_MODEL`` for what is no model.
    """
    try:
        model = onnx.load(str(source), load_external_data=False)
    except Exception as error:  # the parser raises many types
        raise FlexPieError(ErrorCode.INVALID_MODEL, f"{source} cannot be read as an ONNX model.") from error
    external = any(item.data_location == TensorProto.EXTERNAL for item in model.graph.initializer)
    if external and source.resolve().parent != target.resolve().parent:
        raise _wrong(f"{source.name} keeps its weights in files beside it.", "Write the new model into that folder.")
    target.write_bytes(take_image_bytes(model, mean, std, name).SerializeToString())


def _constants(
    mean: Sequence[float], std: Sequence[float], channels: int, rank: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """What bytes are multiplied by, and what is added then; shape [C, 1, ...] or [1, 1, ...]."""
    means, stds = np.array(mean or (0.0,), np.float64), np.array(std or (1.0,), np.float64)
    if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
        raise _wrong("Means must be finite, and standard deviations positive.")
    for values in (means, stds):
        if len(values) != 1 and channels and len(values) != channels:
            raise _wrong(f"The image has {channels} channels, but {len(values)} values are given.")
    if len(means) != len(stds) and 1 not in (len(means), len(stds)):
        raise _wrong(f"There are {len(means)} means and {len(stds)} standard deviations.")
    scale = np.broadcast_to(1 / (255 * stds), np.broadcast_shapes(means.shape, stds.shape))
    offset = np.broadcast_to(-means / stds, scale.shape)
    shape = (len(scale), *(1,) * (rank - 2))
    assert math.prod(shape) == len(scale)
    return scale.astype(np.float32).reshape(shape), offset.astype(np.float32).reshape(shape)


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let everything that reads `old` read `new`, in the bodies of control flow as well."""
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == old:
                node.input[index] = new
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                hidden = {port.name for port in body.input} | {item.name for item in body.initializer}
                if old not in hidden:
                    _rename_reads(body, old, new)
    for port in graph.output:
        if port.name == old:  # an output of a body, or an input that is passed on
            port.name = new


def _wrong(what: str, remedy: str = "") -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_ARGUMENT, what, remedy)
