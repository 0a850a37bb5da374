"""Regions: half-open boxes of a tensor, the one idea that planning and slicing share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A half-open range ``[start, stop)`` of indices on one axis."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of indices; 0 for an empty interval, never negative."""
        return max(0, self.stop - self.start)

    def intersect(self, other: Interval) -> Interval:
        """The indices in both; empty (``stop <= start``) when they do not meet."""
        return Interval(max(self.start, other.start), min(self.stop, other.stop))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that covers both."""
        return Interval(min(self.start, other.start), max(self.stop, other.stop))

    def contains(self, other: Interval) -> bool:
        """Whether every index of `other` is in this interval."""
        return other.length == 0 or (self.start <= other.start and other.stop <= self.stop)


class Region(tuple[Interval, ...]):
    """A box of a tensor: one interval per axis.

    The region of a scalar has no axes and size 1. A region with an empty interval has size 0 and holds nothing.
    """

    __slots__ = ()

    @classmethod
    def of(cls, *bounds: tuple[int, int]) -> Region:
        """Region from ``(start, stop)`` pairs, one per axis."""
        return cls(Interval(start, stop) for start, stop in bounds)

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """The region that covers a tensor of this shape."""
        return cls(Interval(0, length) for length in shape)

    @classmethod
    def empty(cls, rank: int) -> Region:
        """A region of `rank` axes that holds nothing (of a scalar no empty region exists; rank must be ≥ 1)."""
        if rank == 0:
            raise ValueError("a scalar has no empty region")
        return cls([Interval(0, 0)] * rank)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length on each axis."""
        return tuple(interval.length for interval in self)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(interval.length for interval in self)

    @property
    def is_empty(self) -> bool:
        """Whether no element is inside."""
        return any(interval.stop <= interval.start for interval in self)

    def with_axis(self, axis: int, interval: Interval) -> Region:
        """The same box with another interval on one axis (negative axes count from the end)."""
        axis %= len(self)
        return Region((*self[:axis], interval, *self[axis + 1 :]))

    def intersect(self, other: Region) -> Region:
        """The elements in both; may be empty."""
        pairs = zip(self, other, strict=True)
        return Region([Interval(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs])

    def hull(self, other: Region) -> Region:
        """The bounding box of both; an empty region adds nothing."""
        if self.is_empty:
            return other
        if other.is_empty:
            return self
        pairs = zip(self, other, strict=True)
        return Region([Interval(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs])

    def contains(self, other: Region) -> bool:
        """Whether every element of `other` is inside."""
        return other.is_empty or all(a.contains(b) for a, b in zip(self, other, strict=True))

    def subtract(self, other: Region) -> list[Region]:
        """What is left of this box without `other`: disjoint boxes, at most two per axis."""
        common = self.intersect(other)
        if common.is_empty:
            return [] if self.is_empty else [self]
        rest: list[Region] = []
        box = self
        for axis, (whole, cut) in enumerate(zip(self, common, strict=True)):
            if whole.start < cut.start:
                rest.append(box.with_axis(axis, Interval(whole.start, cut.start)))
            if cut.stop < whole.stop:
                rest.append(box.with_axis(axis, Interval(cut.stop, whole.stop)))
            box = box.with_axis(axis, cut)
        return rest

    def relative_to(self, origin: Region) -> tuple[slice, ...]:
        """Slices that cut this region out of an array that holds exactly `origin`."""
        return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(self, origin, strict=True))

    def __str__(self) -> str:
        return "[" + ", ".join(f"{start}:{stop}" for start, stop in self) + "]"


def subtract_all(region: Region, held: Iterable[Region]) -> list[Region]:
    """What of `region` is in none of the `held` boxes, as disjoint boxes."""
    missing = [] if region.is_empty else [region]
    for box in held:
        missing = [part for piece in missing for part in piece.subtract(box)]
    return missing
