"""Arrays in the messages of the Open Inference Protocol: datatypes, raw contents and typed contents.

Every function raises ``INVALID_INPUT``, naming the tensor, when contents do not fit the declared shape and datatype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.wire.strings import read_strings
from flexpie.wire.tensors import NUMPY_DTYPES, Array, array_to_bytes
from flexpie.wire.v1 import open_inference_pb2

DATATYPES: dict[ElementType, str] = {
    ElementType.FLOAT32: "FP32",
    ElementType.FLOAT64: "FP64",
    ElementType.FLOAT16: "FP16",
    ElementType.BFLOAT16: "BF16",
    ElementType.INT8: "INT8",
    ElementType.INT16: "INT16",
    ElementType.INT32: "INT32",
    ElementType.INT64: "INT64",
    ElementType.UINT8: "UINT8",
    ElementType.UINT16: "UINT16",
    ElementType.UINT32: "UINT32",
    ElementType.UINT64: "UINT64",
    ElementType.BOOL: "BOOL",
    ElementType.STRING: "BYTES",
}
"""What the protocol calls each element type."""

_ELEMENT_TYPES = {name: kind for kind, name in DATATYPES.items()}
_CONTENTS = {
    ElementType.BOOL: "bool_contents",
    ElementType.INT8: "int_contents",
    ElementType.INT16: "int_contents",
    ElementType.INT32: "int_contents",
    ElementType.INT64: "int64_contents",
    ElementType.UINT8: "uint_contents",
    ElementType.UINT16: "uint_contents",
    ElementType.UINT32: "uint_contents",
    ElementType.UINT64: "uint64_contents",
    ElementType.FLOAT32: "fp32_contents",
    ElementType.FLOAT64: "fp64_contents",
    ElementType.STRING: "bytes_contents",
}
"""The list of typed contents that holds each element type; 16-bit floats have none."""


def element_type_of(datatype: str, name: str) -> ElementType:
    """The element type that the protocol calls `datatype`; `name` is the tensor's."""
    if datatype not in _ELEMENT_TYPES:
        known = ", ".join(sorted(_ELEMENT_TYPES))
        raise _invalid(f"Tensor {name} has the unknown datatype {datatype!r}; known are {known}.")
    return _ELEMENT_TYPES[datatype]


def array_to_raw(array: Array) -> memoryview:
    """The array as raw contents."""
    return array_to_bytes(array)


def array_from_raw(raw: bytes | memoryview, datatype: str, shape: Sequence[int], name: str) -> Array:
    """The array in raw contents: a read-only view of them. bfloat16 comes as uint16 bit patterns."""
    kind = element_type_of(datatype, name)
    count, view = _count(shape, name), memoryview(raw)
    if kind is ElementType.STRING:
        if count * 4 > len(view):  # before anything of that size is made
            raise _invalid(f"Tensor {name} of shape {list(shape)} has {len(view)} bytes, too few for {count} strings.")
        try:
            strings, length = read_strings(view, count)
        except ValueError as error:
            raise _invalid(f"Tensor {name} of shape {list(shape)}: {error}.") from error
        if length != len(view):
            raise _invalid(f"Tensor {name} of shape {list(shape)} has {len(view) - length} bytes too many.")
        return strings.reshape(shape)
    if count * kind.itemsize != len(view):
        raise _invalid(
            f"Tensor {name} of shape {list(shape)} and datatype {datatype} takes {count * kind.itemsize} bytes, "
            f"but has {len(view)}."
        )
    return np.frombuffer(view, NUMPY_DTYPES[kind]).reshape(shape)


def array_to_contents(array: Array, kind: ElementType) -> open_inference_pb2.InferTensorContents:
    """The array as typed contents."""
    contents = open_inference_pb2.InferTensorContents()
    field = _contents_field(kind, DATATYPES[kind])
    flat = array.ravel()
    elements = [_as_bytes(text) for text in flat] if kind is ElementType.STRING else flat.tolist()
    getattr(contents, field).extend(elements)
    return contents


def array_from_contents(
    contents: open_inference_pb2.InferTensorContents, datatype: str, shape: Sequence[int], name: str
) -> Array:
    """The array in typed contents."""
    kind = element_type_of(datatype, name)
    field = _contents_field(kind, name)
    filled = [other.name for other, _ in contents.ListFields() if other.name != field]
    if filled:
        raise _invalid(f"Tensor {name} of datatype {datatype} has its elements in {filled[0]} instead of {field}.")
    elements, count = getattr(contents, field), _count(shape, name)
    if len(elements) != count:
        raise _invalid(f"Tensor {name} of shape {list(shape)} takes {count} elements, but has {len(elements)}.")
    try:
        if kind is ElementType.STRING:
            array = np.empty(count, dtype=object)
            array[:] = [str(element, "utf-8") for element in elements]
        else:
            array = np.array(elements, dtype=NUMPY_DTYPES[kind])
    except (ValueError, OverflowError) as error:
        raise _invalid(f"Tensor {name} of datatype {datatype}: {error}.") from error
    return array.reshape(shape)


def float32_to_bfloat16(array: Array) -> Array:
    """Bit patterns of the nearest bfloat16 numbers (ties to even), as uint16."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 0x40  # rounding could turn a NaN into an infinity
    return np.where(np.isnan(array), quiet, rounded).astype(np.uint16)


def bfloat16_to_float32(bits: Array) -> Array:
    """The numbers that bfloat16 bit patterns (uint16) stand for, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _count(shape: Sequence[int], name: str) -> int:
    if any(length < 0 for length in shape):
        raise _invalid(f"Tensor {name} has the shape {list(shape)}; lengths must not be negative.")
    return math.prod(shape)


def _contents_field(kind: ElementType, name: str) -> str:
    if kind not in _CONTENTS:
        raise _invalid(f"Tensor {name}: {DATATYPES[kind]} travels as raw contents only.")
    return _CONTENTS[kind]


def _as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def _invalid(message: str) -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_INPUT, message)
