"""Where the bytes of weights lie, in the model or in files beside it, and whether all are there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from flexpie.core.errors import ErrorCode, FlexPieError

_LENGTHS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")
"""Fields of TensorProto with one entry per element, but for complex numbers (two) and types of under 8 bits."""


def check_weight_data(path: Path, proto: onnx.ModelProto) -> None:
    """Raise ``INVALID_MODEL`` for data that are missing, cut off, of another size than declared, or outside of the
    model's folder."""
    folder = path.resolve().parent
    tensors = [*_tensors(proto.graph.node), *proto.graph.initializer]
    tensors += [tensor for function in proto.functions for tensor in _tensors(function.node)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check(path, folder, tensor)
        else:
            _check_inside(path, tensor)


def map_external_data(path: Path, model: ir.Model) -> None:
    """Let weights in files be found. Those in sub-graphs and attributes, which go where their node goes, become
    plain ones; they stay mapped until then."""
    ir.external_data.set_base_dir(model.graph, path.resolve().parent)
    for graph in model.graphs():
        if graph is not model.graph:
            for value in graph.initializers.values():
                if isinstance(value.const_value, ir.ExternalTensor):
                    value.const_value = _plain(value.const_value)
    for node in model.graph.all_nodes():
        for attr in list(node.attributes.values()):
            if attr.type is ir.AttributeType.TENSOR and isinstance(attr.value, ir.ExternalTensor):
                node.attributes[attr.name] = ir.AttrTensor(attr.name, _plain(attr.value))


def _plain(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def _tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Tensors in attributes and sub-graphs."""
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer
                yield from _tensors(graph.node)


def _check_inside(path: Path, tensor: onnx.TensorProto) -> None:
    """Shape inference counts on what a tensor declares: one that says 2⁴⁰ elements and has one would keep it busy."""
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError:
        return  # the checker tells
    if kind is ir.DataType.UNDEFINED:
        return  # no tensor, or one of which the checker tells that it has no type
    size = math.prod(tensor.dims)
    if tensor.HasField("raw_data") and kind is not ir.DataType.STRING:
        found, declared, unit = len(tensor.raw_data), math.ceil(size * kind.bitwidth / 8), "bytes"
    else:
        found, declared, unit = max(len(getattr(tensor, name)) for name in _LENGTHS), size, "elements"
        if kind in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            declared *= 2
        elif kind is not ir.DataType.STRING and kind.bitwidth < 8:
            declared = math.ceil(size * kind.bitwidth / 8)
    if min(tensor.dims, default=0) < 0 or found != declared:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"Weight {tensor.name!r} of {path.name} declares the shape {list(tensor.dims)} and so {declared} {unit}, "
            f"and has {found}.",
            "The file is damaged, or was edited; export the model again.",
        )


def _check(path: Path, folder: Path, tensor: onnx.TensorProto) -> None:
    entry = {item.key: item.value for item in tensor.external_data}
    location = entry.get("location", "")
    file = folder / location
    if not location or Path(location).is_absolute() or not file.resolve().is_relative_to(folder):
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"Weight {tensor.name} of {path.name} lies in {location!r}, outside of the model's folder.",
            "Keep external data beside the model file.",
        )
    if not file.is_file():
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The external data {location!r} of {path.name} is missing (weight {tensor.name}).",
            "Copy the data file beside the model file; a link to a file elsewhere does not count.",
        )
    if file.stat().st_nlink > 1:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The external data {location!r} of {path.name} has several hard links, which onnx does not open.",
            "Make a copy of the file, and put it in the place of this one.",
        )
    end = _end(path, tensor, entry)
    if file.stat().st_size < end:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The external data {location!r} of {path.name} is truncated: weight {tensor.name} ends at byte "
            f"{end}, the file at {file.stat().st_size}.",
            "Copy the data file again.",
        )


def _end(path: Path, tensor: onnx.TensorProto, entry: Mapping[str, str]) -> int:
    """The byte behind a tensor in its file; without a length in the model its shape tells."""
    try:
        numbers = [int(entry.get("offset", 0)), int(entry.get("length", 0)), *tensor.dims]
        nbytes = math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).itemsize)
        if min(numbers) < 0:
            raise ValueError("a number is below zero")
    except (ValueError, TypeError) as error:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"{path.name} does not tell where weight {tensor.name} lies in its file: {error}.",
            "Export the model again.",
        ) from error
    return numbers[0] + max(numbers[1], nbytes)
