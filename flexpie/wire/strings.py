"""Strings as bytes: each (UTF-8) behind its length in four bytes, little-endian, as in the Open Inference Protocol."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def strings_to_bytes(strings: Iterable[str | bytes]) -> bytes:
    """Each string (UTF-8) behind its length in four bytes, little-endian."""
    pieces = []
    for text in strings:
        encoded = text if isinstance(text, bytes) else str(text).encode()
        pieces += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(pieces)


def read_strings(data: memoryview, count: int) -> tuple[NDArray[Any], int]:
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
