"""Arrays as bytes: parts of values on the data plane.

Arrays are C-contiguous and little-endian. Types that numpy lacks (bfloat16, 8-bit floats and so on) are carried as bit
patterns in unsigned integers, a byte at least for each element.
Strings are object arrays of ``str``; each element travels behind its length in four bytes, as in the Open Inference
Protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.framing import NO_BYTES, unpack

Array = NDArray[Any]

_NATIVE = frozenset(
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()
)  # what numpy knows by itself: ml_dtypes, where it is imported, adds names that it must not know here
_CARRIED_AS_OBJECTS = frozenset(("string", "object"))


def _carrier(kind: ElementType) -> np.dtype[Any]:
    if kind.value in _CARRIED_AS_OBJECTS:
        return np.dtype(object)
    return np.dtype(kind.value if kind.value in _NATIVE else f"uint{8 * kind.itemsize}")


NUMPY_DTYPES: dict[ElementType, np.dtype[Any]] = {kind: _carrier(kind) for kind in ElementType}
"""The numpy type that carries each element type."""


def cut(array: Array, origin: Region, region: Region) -> Array:
    """The part of an array, which holds exactly `origin`, that `region` covers; a view where possible."""
    return array if region == origin else array[region.relative_to(origin)]


def array_to_bytes(array: Array) -> memoryview:
    """The elements as contiguous bytes; a view of the array where it is contiguous already."""
    if array.dtype == object:
        return memoryview(strings_to_bytes(array.ravel()))
    if not array.size:
        return NO_BYTES
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def payload_bytes(values: Sequence[Value]) -> int | None:
    """Bytes of a message that brings these values; None where strings make it unknown."""
    if any(value.dtype is ElementType.STRING for value in values):
        return None
    return sum(value.nbytes for value in values)


def payload_to_arrays(payload: memoryview, values: Sequence[Value]) -> list[Array]:
    """The arrays of a message's values: read-only views of the payload, copied only where one would be unaligned.

    Raises ``CORRUPT_PACKAGE`` when the payload's size is not that of the values.
    """
    if payload_bytes(values) is None:
        return _mixed_arrays(payload, values)
    views = unpack(payload, [value.nbytes for value in values])
    return [_array(view, value) for view, value in zip(views, values, strict=True)]


def strings_to_bytes(strings: Iterable[str | bytes]) -> bytes:
    """Each string (UTF-8) behind its length in four bytes, little-endian."""
    pieces = []
    for text in strings:
        encoded = text if isinstance(text, bytes) else str(text).encode()
        pieces += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(pieces)


def read_strings(data: memoryview, count: int) -> tuple[Array, int]:
    """The first `count` strings of `data` as an object array, and the number of bytes that they take.

    Raises ``ValueError`` when they are cut off or no UTF-8.
    """
    strings, start = np.empty(count, dtype=object), 0
    for index in range(count):
        if start + 4 > len(data):
            raise ValueError(f"{count} strings were expected, {index} are there")
        (length,) = struct.unpack_from("<I", data, start)
        start += 4
        if start + length > len(data):
            raise ValueError(f"string {index} is cut off")
        strings[index] = str(data[start : start + length], "utf-8")
        start += length
    return strings, start


def _array(view: memoryview, value: Value) -> Array:
    array = np.frombuffer(view, dtype=NUMPY_DTYPES[value.dtype]).reshape(value.region.shape)
    return array if array.flags.aligned else array.copy()


def _mixed_arrays(payload: memoryview, values: Sequence[Value]) -> list[Array]:
    arrays = []
    for value in values:
        try:
            if value.dtype is ElementType.STRING:
                strings, length = read_strings(payload, value.region.size)
                array = strings.reshape(value.region.shape)
            else:
                length = value.nbytes
                if length > len(payload):
                    raise ValueError(f"{value.tensor} is cut off")
                array = _array(payload[:length], value)
        except ValueError as error:
            raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"A payload does not fit its values: {error}.") from error
        arrays.append(array)
        payload = payload[length:]
    unpack(payload, [])
    return arrays
