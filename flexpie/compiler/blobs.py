"""Content-addressed pieces of a package, cut from the model only when somebody reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from flexpie.core.program import BlobRef

_PACKED = {"int4", "uint4", "float4_e2m1fn", "int2", "uint2"}
"""Types of which ONNX stores several elements in a byte."""


@dataclass(frozen=True)
class Blob:
    """Bytes with their hash. The bytes are made anew for each reading, so that a package is never in memory whole."""

    ref: BlobRef
    open: Callable[[], memoryview]
    """Makes the bytes."""

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """The bytes, in pieces of at most `chunk_bytes`."""
        view = self.open()
        for start in range(0, len(view), chunk_bytes):
            yield view[start : start + chunk_bytes]


def blob_of(make: Callable[[], memoryview]) -> Blob:
    """A blob from what makes its bytes; reads them once for the hash."""
    view = make()
    return Blob(BlobRef(hashlib.sha256(view).hexdigest(), len(view)), make)


def array_bytes(array: npt.NDArray[np.generic]) -> memoryview:
    """The bytes of an array as ONNX stores them: C order, little-endian; no copy where it has them already."""
    if array.dtype.name in _PACKED:
        return memoryview(ir.Tensor(np.ascontiguousarray(array)).tobytes())
    array = np.ascontiguousarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data
