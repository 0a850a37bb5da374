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

    @property
    def itemsize(self) -> int:
        """Bytes of one element; for strings a planning estimate."""
        return _ITEM_SIZES[self]


_ITEM_SIZES = {
    ElementType.FLOAT32: 4,
    ElementType.FLOAT64: 8,
    ElementType.FLOAT16: 2,
    ElementType.BFLOAT16: 2,
    ElementType.INT8: 1,
    ElementType.INT16: 2,
    ElementType.INT32: 4,
    ElementType.INT64: 8,
    ElementType.UINT8: 1,
    ElementType.UINT16: 2,
    ElementType.UINT32: 4,
    ElementType.UINT64: 8,
    ElementType.BOOL: 1,
    ElementType.STRING: 32,
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and element type of a tensor."""

    name: str
    shape: Shape
    """Length of each axis; all known."""
    dtype: ElementType

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.size * self.dtype.itemsize

    @property
    def whole(self) -> Region:
        """The region that covers the tensor."""
        return Region.whole(self.shape)
