"""Arrays as bytes: parts of values on the data plane.

Arrays are C-contiguous and little-endian. Types that numpy lacks (bfloat16, 8-bit floats and so on) are carried as bit
patterns in unsigned integers, a byte at least for each element.
Strings are object arrays of ``str``. An opaque value tells itself what it is (`flexpie.wire.opaque`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.framing import NO_BYTES, unpack
from flexpie.wire.opaque import Datum, datum_to_bytes, read_datum
from flexpie.wire.strings import read_strings, strings_to_bytes

Array = NDArray[Any]

_NATIVE = frozenset(
    ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
)  # what numpy knows by itself: ml_dtypes, where it is imported, adds names that it must not know here
_CASTABLE = "biuf"
"""Kinds of numpy types whose memory Python itself can look at as bytes: not those of complex numbers."""
_CARRIED_AS_OBJECTS = frozenset(("string", "object"))


def _carrier(kind: ElementType) -> np.dtype[Any]:
    if kind.value in _CARRIED_AS_OBJECTS:
        return np.dtype(object)
    return np.dtype(kind.value if kind.value in _NATIVE else f"uint{8 * kind.itemsize}")


NUMPY_DTYPES: dict[ElementType, np.dtype[Any]] = {kind: _carrier(kind) for kind in ElementType}
"""The numpy type that carries each element type."""


def cut(array: Datum, origin: Region, region: Region) -> Datum:
    """The part of an array, which holds exactly `origin`, that `region` covers; a view where possible."""
    return array if region == origin else array[region.relative_to(origin)]


def datum_bytes(datum: Datum, opaque: bool) -> memoryview:
    """What travels of an array, or of an opaque value. Raises ``EXECUTION_FAILED`` for a value that cannot."""
    if not opaque:
        return array_to_bytes(datum)
    try:
        return memoryview(datum_to_bytes(datum))
    except TypeError as error:
        raise FlexPieError(ErrorCode.EXECUTION_FAILED, f"A model yielded {error}, which cannot be sent.") from error


def array_to_bytes(array: Array) -> memoryview:
    """The elements as contiguous bytes; a view of the array where it is contiguous already."""
    if array.dtype == object:
        return memoryview(strings_to_bytes(array.ravel()))
    if not array.size:
        return NO_BYTES
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    array = np.ascontiguousarray(array)
    return array.data.cast("B") if array.dtype.kind in _CASTABLE else array.reshape(-1).view(np.uint8).data


def payload_bytes(values: Sequence[Value]) -> int | None:
    """Bytes of a message that brings these values; None where opaque values or strings make it unknown."""
    if any(value.opaque or value.dtype is ElementType.STRING for value in values):
        return None
    return sum(value.nbytes for value in values)


def payload_to_arrays(payload: memoryview, values: Sequence[Value]) -> list[Datum]:
    """The arrays (or opaque values) of a message: read-only views of it, copied only where one would be unaligned.

    Raises ``CORRUPT_PACKAGE`` when the payload's size is not that of the values.
    """
    if payload_bytes(values) is None:
        return _mixed_arrays(payload, values)
    views = unpack(payload, [value.nbytes for value in values])
    return [_array(view, value) for view, value in zip(views, values, strict=True)]


def _array(view: memoryview, value: Value) -> Array:
    array = np.frombuffer(view, dtype=NUMPY_DTYPES[value.dtype]).reshape(value.region.shape)
    return array if array.flags.aligned else array.copy()


def _mixed_arrays(payload: memoryview, values: Sequence[Value]) -> list[Datum]:
    arrays: list[Datum] = []
    for value in values:
        try:
            if value.opaque:
                array, length = read_datum(payload)
            elif value.dtype is ElementType.STRING:
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
