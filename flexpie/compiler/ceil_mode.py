"""Pools with `ceil_mode`: written so that shape inference and onnxruntime agree on them.

Before operator set 22, ONNX counts a last window that begins beyond the image, in the padding at the end;
onnxruntime leaves it out (as PyTorch does). FlexPie promises onnxruntime's numbers, so such a pool is rewritten
with just the padding that its remaining windows cover, which means the same to both.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

_POOLS = {"MaxPool", "AveragePool", "LpPool"}


def settle_ceil_mode(node: ir.Node) -> bool:
    """Rewrite a pool whose inferred output has windows that onnxruntime leaves out; whether it was one, and could be.

    requires: the inferred shape of its input. Shapes behind it have to be inferred again.
    """
    axes = _axes_of(node)
    if not any(axis.drops_window for axis in axes):
        return False
    attributes = node.attributes
    begins = [axis.begin for axis in axes]
    floor_ends = [axis.floor_end for axis in axes]
    ceil_ends = [axis.ceil_end if axis.drops_window else axis.end for axis in axes]
    counts_padding = bool(attributes.get_int("count_include_pad", 0))
    if all(
        end < axis.kernel and (end <= axis.end or not counts_padding)
        for end, axis in zip(floor_ends, axes, strict=True)
    ):
        attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
        ends = floor_ends
    elif all(end is not None for end in ceil_ends):
        ends = [end for end in ceil_ends if end is not None]
    else:
        return False
    attributes["pads"] = ir.AttrInt64s("pads", begins + ends)
    return True


def pool_shape(node: ir.Node) -> tuple[int, ...] | None:
    """The output's shape in onnxruntime of a pool with windows that it leaves out; None for all other nodes."""
    axes = _axes_of(node)
    if not any(axis.drops_window for axis in axes):
        return None
    assert node.inputs[0] is not None
    assert node.inputs[0].shape is not None
    batch, channels = (int(dim) for dim in list(node.inputs[0].shape)[:2] if isinstance(dim, int))
    return (batch, channels, *(axis.inferred - axis.drops_window for axis in axes))


def _axes_of(node: ir.Node) -> list[_Axis]:
    """The axes of a pool's windows; none for a node that is no pool with `ceil_mode`, or of an unknown shape."""
    attributes = node.attributes
    image = node.inputs[0] if node.op_type in _POOLS and not node.domain else None
    if image is None or image.shape is None or not image.shape.is_static():
        return []
    if attributes.get_int("ceil_mode", 0) == 0 or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return []
    kernel = list(attributes.get_ints("kernel_shape", []))
    rank = len(kernel)
    strides = list(attributes.get_ints("strides", [1] * rank))
    dilations = list(attributes.get_ints("dilations", [1] * rank))
    pads = list(attributes.get_ints("pads", [0] * 2 * rank))
    lengths = [int(dim) for dim in list(image.shape)[2:] if isinstance(dim, int)]
    if [len(lengths), len(strides), len(dilations), len(pads)] != [rank, rank, rank, 2 * rank]:
        return []  # shape inference tells what is wrong with it
    return [
        _Axis(length, kernel[at], (kernel[at] - 1) * dilations[at] + 1, strides[at], pads[at], pads[at + rank])
        for at, length in enumerate(lengths)
    ]


@dataclass(frozen=True)
class _Axis:
    """A pool's windows along one axis."""

    length: int
    kernel: int
    window: int
    """Elements from the first to the last of a window, dilation included."""
    stride: int
    begin: int
    end: int
    """Padding."""

    @property
    def inferred(self) -> int:
        """Windows that ONNX counts."""
        return -(-(self.length + self.begin + self.end - self.window) // self.stride) + 1

    @property
    def drops_window(self) -> bool:
        """Whether the last of them begins beyond the image."""
        return self.inferred > 1 and (self.inferred - 1) * self.stride >= self.length + self.begin

    @property
    def floor_end(self) -> int:
        """Padding at the end with which floor mode counts the windows that are left: what they cover."""
        last = self.inferred - 1 - self.drops_window
        return max(0, last * self.stride + self.window - self.length - self.begin)

    @property
    def ceil_end(self) -> int | None:
        """Padding at the end with which ceil mode counts them; None where there is none."""
        last = self.inferred - 2
        end = last * self.stride + self.window - self.length - self.begin
        return end if end >= 0 and end <= self.end else None
