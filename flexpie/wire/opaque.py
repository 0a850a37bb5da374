"""Values that tell themselves what they are: tensors whose shape depends on the data, sequences, optionals, maps.

A value is a kind byte and what follows from it; numbers are little-endian:

    0  nothing (an optional without value)
    1  tensor: element type (length in one byte, then numpy's name), rank in one byte, lengths in eight bytes each,
       then its elements as they travel in any message, padded in front to a multiple of eight bytes
    2  sequence: count in four bytes, then that many values
    3  map: count in four bytes, then that many pairs of a key and a value
    4  integer (a key, or a map's value) in eight bytes
    5  number (a map's value) in eight bytes
    6  text: length in four bytes, then UTF-8
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexpie.wire.strings import read_strings, strings_to_bytes

Datum = Any
"""An array, None, or a list or dict of such: what onnxruntime takes and yields."""

_NOTHING, _TENSOR, _SEQUENCE, _MAP, _INTEGER, _NUMBER, _TEXT = range(7)
_ALIGNMENT = 8
_MAX_DEPTH = 16
_TYPES = {name: np.dtype(name) for name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "complex128", "object")}  # fmt: skip


def datum_to_bytes(datum: Datum) -> bytes:
    """A value as self-describing bytes. Raises ``TypeError`` for what no model yields."""
    buffer = bytearray()
    _write(buffer, datum)
    return bytes(buffer)


def read_datum(data: memoryview) -> tuple[Datum, int]:
    """The value at the beginning of `data`, and the number of bytes that it takes; raises ``ValueError``."""
    reader = _Reader(data)
    return reader.value(0), reader.position


def _write(buffer: bytearray, datum: Datum) -> None:
    match datum:
        case None:
            buffer.append(_NOTHING)
        case np.ndarray():
            _write_tensor(buffer, datum)
        case list() | tuple():
            buffer += struct.pack("<BI", _SEQUENCE, len(datum))
            for item in datum:
                _write(buffer, item)
        case dict():
            buffer += struct.pack("<BI", _MAP, len(datum))
            for key, value in datum.items():
                _write(buffer, key)
                _write(buffer, value)
        case int() | np.integer():
            buffer += struct.pack("<Bq", _INTEGER, int(datum))
        case float() | np.floating():
            buffer += struct.pack("<Bd", _NUMBER, float(datum))
        case str():
            encoded = datum.encode()
            buffer += struct.pack("<BI", _TEXT, len(encoded)) + encoded
        case _:
            raise TypeError(f"a value of the type {type(datum).__name__}")


def _write_tensor(buffer: bytearray, array: NDArray[Any]) -> None:
    name = array.dtype.name
    if name not in _TYPES:
        raise TypeError(f"an array of the type {array.dtype}")
    buffer += struct.pack("<BB", _TENSOR, len(name)) + name.encode()
    buffer += struct.pack(f"<B{array.ndim}q", array.ndim, *array.shape)
    if array.dtype == object:
        buffer += strings_to_bytes(array.ravel())
        return
    buffer += bytes(-len(buffer) % _ALIGNMENT)
    buffer += np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.position = 0
        self._data = data

    def value(self, depth: int) -> Datum:
        if depth > _MAX_DEPTH:
            raise ValueError("a value is nested too deeply")
        match self._number("B"):
            case 0:
                return None
            case 1:
                return self._tensor()
            case 2:
                return [self.value(depth + 1) for _ in range(self._count())]
            case 3:
                return {self._key(depth): self.value(depth + 1) for _ in range(self._count())}
            case 4:
                return self._number("q")
            case 5:
                return self._unpack("d")[0]
            case 6:
                return str(self._take(self._number("I")), "utf-8")
            case kind:
                raise ValueError(f"a value of the unknown kind {kind}")

    def _key(self, depth: int) -> int | str:
        key = self.value(depth + 1)
        if not isinstance(key, (int, str)):
            raise ValueError("a map has a key that is neither integer nor text")
        return key

    def _tensor(self) -> NDArray[Any]:
        name = str(self._take(self._number("B")), "utf-8")
        if name not in _TYPES:
            raise ValueError(f"a tensor of the unknown type {name[:40]!r}")
        rank = self._number("B")
        shape = self._unpack(f"{rank}q")
        if any(length < 0 for length in shape):
            raise ValueError(f"a tensor of shape {shape}")
        count = math.prod(shape)
        if name == "object":
            if count * 4 > len(self._data) - self.position:  # before anything of that size is made
                raise ValueError(f"{count} strings are cut off")
            strings, length = read_strings(self._data[self.position :], count)
            self._take(length)
            return strings.reshape(shape)
        self._take(-self.position % _ALIGNMENT)
        view = self._take(count * _TYPES[name].itemsize)
        array: NDArray[Any] = np.frombuffer(view, _TYPES[name]).reshape(shape)
        return array if array.flags.aligned else array.copy()

    def _count(self) -> int:
        count = self._number("I")
        if count > len(self._data) - self.position:  # each item takes a byte at least
            raise ValueError(f"{count} items are cut off")
        return count

    def _number(self, code: str) -> int:
        (number,) = self._unpack(code)
        return int(number)

    def _unpack(self, codes: str) -> tuple[Any, ...]:
        return struct.unpack("<" + codes, self._take(struct.calcsize("<" + codes)))

    def _take(self, length: int) -> memoryview:
        if self.position + length > len(self._data):
            raise ValueError("a value is cut off")
        start, self.position = self.position, self.position + length
        return self._data[start : self.position]
