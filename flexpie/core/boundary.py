"""What floats are where they pass from one device to another."""

from __future__ import annotations

import enum

from flexpie.core.tensor import ElementType, TensorSpec

LARGEST_FLOAT16 = 65504.0
"""What lies beyond it, infinity too, becomes this on a float16 boundary."""


class Boundary(enum.Enum):
    """Element type of the float32 tensors that devices exchange. What comes from the master and goes to it, inputs and
    outputs of the model, is never anything but what it is; neither are tensors of other types."""

    FLOAT32 = "float32"
    """As they are: exact."""
    FLOAT16 = "float16"
    """Half the bytes, rounded to 11 bits; for a plan whose devices exchange nothing, no difference."""

    def narrows(self, spec: TensorSpec) -> bool:
        """Whether a tensor has half its bytes between devices."""
        return self is Boundary.FLOAT16 and spec.dtype is ElementType.FLOAT32 and not spec.opaque

    def itemsize(self, spec: TensorSpec) -> int:
        """Bytes of one element between devices."""
        return ElementType.FLOAT16.itemsize if self.narrows(spec) else spec.itemsize


BOUNDARIES = tuple(item.value for item in Boundary)
