"""Sliding windows on one axis: which inputs an interval of outputs sees, and how much padding is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexpie.core.region import Interval
from flexpie.core.rules.base import BoundOperator


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pooling on one spatial axis."""

    length: int
    """Of the input."""
    count: int
    """Windows, that is length of the output."""
    kernel: int
    stride: int
    dilation: int
    pad_begin: int
    pad_end: int

    @property
    def extent(self) -> int:
        """Input positions from a window's first to its last, gaps included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def is_sound(self) -> bool:
        """Whether geometry and shapes agree (with the last window cut off or kept, as `ceil_mode` may do)."""
        room = self.length + self.pad_begin + self.pad_end - self.extent
        if min(self.pad_begin, self.pad_end, room) < 0 or min(self.kernel, self.stride, self.dilation) < 1:
            return False
        floor = room // self.stride + 1
        return self.count in (floor, floor + (room % self.stride > 0))

    @property
    def starts_inside(self) -> bool:
        """Whether the last window begins in the input, or in the padding before it."""
        return (self.count - 1) * self.stride < self.length + self.pad_begin

    def span(self, outputs: Interval) -> Interval:
        """Input positions under the windows of some outputs; negative or beyond the end where in padding.

        This is the halo formula of the FlexPie paper: ``[out_lo·s - p, (out_hi - 1)·s - p + (K - 1)·d + 1)``.
        """
        first = outputs.start * self.stride - self.pad_begin
        return Interval(first, first + (outputs.length - 1) * self.stride + self.extent)

    def round(self, outputs: Interval) -> Interval:
        """The least growth of `outputs` after which some window meets the input.

        A part whose windows all lie in padding has no input, and no pads could describe it.
        """
        start, stop = outputs
        while stop < self.count and self.span(Interval(start, stop)).stop <= 0:
            stop += 1
        while start > 0 and self.span(Interval(start, stop)).start >= self.length:
            start -= 1
        rounded = Interval(start, stop)
        return Interval(0, self.count) if self._inputs(rounded).length == 0 else rounded

    def inputs(self, outputs: Interval) -> Interval:
        """The inputs that (rounded) outputs need."""
        seen = self._inputs(outputs)
        return seen if seen.length else Interval(0, self.length)

    def pads(self, outputs: Interval) -> tuple[int, int]:
        """Padding before and behind the needed inputs that (rounded) outputs take."""
        if self._inputs(outputs).length == 0:
            return self.pad_begin, self.pad_end
        span = self.span(outputs)
        # Only the last window of ceil_mode reaches beyond the padding; there ceil_mode is still set.
        return max(0, -span.start), min(self.pad_end, max(0, span.stop - self.length))

    def _inputs(self, outputs: Interval) -> Interval:
        return self.span(outputs).intersect(Interval(0, self.length))


def windows(bound: BoundOperator, kernel: Sequence[int]) -> tuple[Window, ...] | None:
    """The window on each spatial axis of a Conv or pooling; None where attributes and shapes disagree.

    `kernel` is always the operator's own.
    """
    if "windows" not in bound.found:
        bound.found["windows"] = _windows(bound, kernel)
    geometry: tuple[Window, ...] | None = bound.found["windows"]
    return geometry


def _windows(bound: BoundOperator, kernel: Sequence[int]) -> tuple[Window, ...] | None:
    lengths, counts = bound.input(0).shape[2:], bound.output().shape[2:]
    rank = len(lengths)
    strides = bound.integers("strides") or (1,) * rank
    dilations = bound.integers("dilations") or (1,) * rank
    pads = bound.integers("pads") or (0,) * (2 * rank)
    if rank == 0 or {len(counts), len(kernel), len(strides), len(dilations), len(pads) // 2} != {rank}:
        return None
    auto_pad = bound.text("auto_pad", "NOTSET")
    found = []
    for axis in range(rank):
        begin, end = pads[axis], pads[axis + rank]
        if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
            extent = (kernel[axis] - 1) * dilations[axis] + 1
            total = (counts[axis] - 1) * strides[axis] + extent - lengths[axis]
            if total < 0:  # strides longer than windows: where windows begin differs between runtimes
                return None
            begin, end = total // 2, total - total // 2
            if auto_pad == "SAME_LOWER":
                begin, end = end, begin
        elif auto_pad == "VALID":
            begin = end = 0
        elif auto_pad not in {"NOTSET", ""}:
            return None
        window = Window(lengths[axis], counts[axis], kernel[axis], strides[axis], dilations[axis], begin, end)
        if not window.is_sound:
            return None
        found.append(window)
    return tuple(found)


def local_pads(geometry: Sequence[Window], outputs: Sequence[Interval]) -> tuple[int, ...]:
    """The `pads` attribute of a part: begins of all axes, then ends."""
    pairs = [window.pads(interval) for window, interval in zip(geometry, outputs, strict=True)]
    return tuple(begin for begin, _ in pairs) + tuple(end for _, end in pairs)
