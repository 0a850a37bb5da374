"""Element types and tensor specifications."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from flexpie.core.region import Region

Shape = tuple[int, ...]


class ElementType(enum.Enum):
    """Element type of a tensor; the value is the name that numpy (or ml_dtypes) uses."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    BOOL = "bool"
    STRING = "string"
    FLOAT8E4M3FN = "float8_e4m3fn"
    FLOAT8E4M3FNUZ = "float8_e4m3fnuz"
    FLOAT8E5M2 = "float8_e5m2"
    FLOAT8E5M2FNUZ = "float8_e5m2fnuz"
    FLOAT8E8M0 = "float8_e8m0fnu"
    FLOAT4E2M1 = "float4_e2m1fn"
    INT4 = "int4"
    UINT4 = "uint4"
    INT2 = "int2"
    UINT2 = "uint2"
    OBJECT = "object"
    """No tensor (a sequence, an optional, a map), or of a type that nothing tells; always opaque."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory and in messages (those of less than eight bits take a byte each); for
        strings and objects a planning estimate."""
        return _ITEM_SIZES.get(self, 1)


_ITEM_SIZES = {
    ElementType.FLOAT32: 4,
    ElementType.FLOAT64: 8,
    ElementType.FLOAT16: 2,
    ElementType.BFLOAT16: 2,
    ElementType.INT16: 2,
    ElementType.INT32: 4,
    ElementType.INT64: 8,
    ElementType.UINT16: 2,
    ElementType.UINT32: 4,
    ElementType.UINT64: 8,
    ElementType.STRING: 32,
    ElementType.OBJECT: 4096,
}
_OPAQUE_ELEMENTS = 1024
"""Planning estimate for tensors whose shape depends on the data."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and element type of a tensor."""

    name: str
    shape: Shape
    """Length of each axis; all known. Empty for an opaque value."""
    dtype: ElementType
    opaque: bool = False
    """Whether the shape depends on the data, or it is no tensor at all. Such a value is never cut: planning and
    slicing see a scalar, whose only region is the whole, and only the value itself tells what it is."""
    grain: Shape = ()
    """Step in which each axis is best divided (`flexpie.core.grain`); empty where that is 1 on every axis."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element; for an opaque value a planning estimate of all of it."""
        return item_bytes(self.dtype, self.opaque)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.size * self.itemsize

    @property
    def whole(self) -> Region:
        """The region that covers the tensor."""
        return Region.whole(self.shape)


def item_bytes(dtype: ElementType, opaque: bool) -> int:
    """Bytes of one element; for an opaque value a planning estimate of all of it: nothing tells how large it gets."""
    return dtype.itemsize * _OPAQUE_ELEMENTS if opaque and dtype is not ElementType.OBJECT else dtype.itemsize
