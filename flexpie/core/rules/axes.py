"""Operators that need some axes whole and leave the others as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set as AbstractSet

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole


class SameShapeRule(Rule):
    """One input and output of the same shape, computed whole along some axes."""

    @abstractmethod
    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The axes along which elements depend on each other."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where shapes differ."""
        return has_elements(bound) and bound.input(0).shape == bound.output().shape

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """Only where no axis is whole, or has but one element."""
        shape = bound.output().shape
        return input_index == 0 and all(shape[axis] == 1 for axis in self.whole_axes(bound))

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The dependent axes grow to their whole length."""
        region = sole(wanted)
        for axis in self.whole_axes(bound):
            region = region.with_axis(axis, Interval(0, bound.output().shape[axis]))
        return (region,)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of the input."""
        return (sole(produced),)


class SoftmaxRule(SameShapeRule):
    """Softmax, LogSoftmax, Hardmax: along `axis`; before version 13 over all axes from `axis` on."""

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The normalised axes."""
        rank = len(bound.output().shape)
        if bound.operator.version >= 13:
            return {bound.integer("axis", -1) % rank} if rank else set()
        axis = bound.integer("axis", 1)
        return set(range(axis + rank if axis < 0 else axis, rank))

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """About five per element: maximum, difference, exponential, sum, quotient."""
        return 5 * sole(produced).size


class ConcatRule(Rule):
    """Inputs side by side along `axis`."""

    def supports(self, bound: BoundOperator) -> bool:
        """Inputs of length zero are never needed."""
        return bound.output().size > 0 and "axis" in bound.operator.attributes

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What each input has of the region; None where nothing: the local node leaves that input out."""
        region = sole(produced)
        axis = bound.integer("axis", 1) % len(region)
        start, found = 0, list[Region | None]()
        for index in range(len(bound.inputs)):
            length = bound.input(index).shape[axis]
            common = region[axis].intersect(Interval(start, start + length))
            own = Interval(common.start - start, common.stop - start)
            found.append(region.with_axis(axis, own) if common.length else None)
            start += length
        return tuple(found)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """None; it copies."""
        return 0
