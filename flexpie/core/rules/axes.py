"""Operators that need some axes whole and leave the others as they are."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Set as AbstractSet

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, CopyRule, LocalForm, Regions, Rule, has_elements, sole, whole_inputs


class SameShapeRule(Rule):
    """An input and an output of the same shape, computed whole along some axes."""

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
        """The same place of the first input; others are parameters, taken whole."""
        return (sole(produced), *whole_inputs(bound)[1:])


class SoftmaxRule(SameShapeRule):
    """Softmax, LogSoftmax, Hardmax: along `axis`; before version 13 over all axes from `axis` on."""

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The normalised axes."""
        rank = len(bound.output().shape)
        if self._version(bound) >= 13:
            return {bound.integer("axis", -1) % rank} if rank else set()
        axis = bound.integer("axis", 1)
        return set(range(axis + rank if axis < 0 else axis, rank))

    def _version(self, bound: BoundOperator) -> int:
        return bound.operator.version

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """About five per element: maximum, difference, exponential, sum, quotient."""
        return 5 * sole(produced).size


class ConcatRule(CopyRule):
    """Inputs side by side along `axis`."""

    def supports(self, bound: BoundOperator) -> bool:
        """Inputs of length zero are never needed."""
        return bound.output().size > 0 and "axis" in bound.operator.attributes

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What each input has of the region; None where nothing."""
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

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Without the inputs of which nothing is needed."""
        return LocalForm(dropped=frozenset(index for index, region in enumerate(needed) if region is None))


class CumulativeRule(SameShapeRule):
    """CumSum, CumProd along an axis that an input names."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where the axis is known."""
        return super().supports(bound) and bound.constants[1] is not None

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The summed axis."""
        return {axis % len(bound.output().shape) for axis in bound.constants[1] or ()}


class TopKRule(Rule):
    """The largest or smallest elements along `axis`, and their places there."""

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Both outputs, with the axis whole."""
        present = [region for region in wanted if region is not None]
        axis = self._axis(bound)
        region = present[0].hull(present[-1]).with_axis(axis, Interval(0, bound.output().shape[axis]))
        return (region,) * len(wanted)

    def supports(self, bound: BoundOperator) -> bool:
        """Not with an omitted output."""
        return has_elements(bound) and all(spec is not None for spec in bound.outputs)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The axis whole; how many."""
        axis = self._axis(bound)
        region = sole(produced).with_axis(axis, Interval(0, bound.input(0).shape[axis]))
        return (region, *whole_inputs(bound)[1:])

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A comparison per element and halving of the axis."""
        length = bound.input(0).shape[self._axis(bound)]
        return math.prod(sole(self.needs(bound, produced)).shape) * max(1, length.bit_length())

    @staticmethod
    def _axis(bound: BoundOperator) -> int:
        return bound.integer("axis", -1) % len(bound.input(0).shape)


class ReverseSequenceRule(SameShapeRule, CopyRule):
    """Elements of each sequence in reverse order along `time_axis`; lengths of sequences [batch]."""

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The time."""
        return {bound.integer("time_axis", 0)}

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """Never."""
        return False

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place, and the lengths of its sequences."""
        region = sole(produced)
        return region, Region((region[bound.integer("batch_axis", 1)],))


class TriluRule(CopyRule):
    """A triangle of matrices, up to or from the k-th diagonal on."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where k is known."""
        return has_elements(bound) and len(bound.input(0).shape) >= 2 and self._diagonal(bound) is not None

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """The first input."""
        return input_index == 0

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place; no k."""
        return (sole(produced), *[None] * (len(bound.inputs) - 1))

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The diagonal as the part sees it."""
        *_, rows, columns = sole(produced)
        return LocalForm(constants={1: ((self._diagonal(bound) or 0) + rows.start - columns.start,)})

    @staticmethod
    def _diagonal(bound: BoundOperator) -> int | None:
        if len(bound.inputs) < 2 or bound.inputs[1] is None:
            return 0
        known = bound.constants[1]
        return known[0] if known else None


class ReduceRule(Rule):
    """ReduceSum and its like, ArgMax, ArgMin: some axes become one element, or vanish."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where the axes are known."""
        dynamic = len(bound.inputs) > 1 and bound.inputs[1] is not None and bound.constants[1] is None
        return bound.input(0).size > 0 and bound.output().size > 0 and not dynamic

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The reduced axes whole."""
        region, shape, axes = sole(produced), bound.input(0).shape, self._axes(bound)
        kept = iter(region)
        intervals = []
        for axis, length in enumerate(shape):
            if axis in axes:
                intervals.append(Interval(0, length))
                if len(region) == len(shape):
                    next(kept)
            else:
                intervals.append(next(kept))
        return (Region(intervals), *whole_inputs(bound)[1:])

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """One per input element."""
        shape = bound.input(0).shape
        return sole(produced).size * math.prod(shape[axis] for axis in self._axes(bound))

    @staticmethod
    def _axes(bound: BoundOperator) -> AbstractSet[int]:
        rank = len(bound.input(0).shape)
        if bound.operator.op_type in {"ArgMax", "ArgMin"}:
            axes: tuple[int, ...] = (bound.integer("axis", 0),)
        else:
            given = bound.constants[1] if len(bound.constants) > 1 else None
            axes = given or bound.integers("axes") or ()
            if not axes and not bound.integer("noop_with_empty_axes", 0):
                axes = tuple(range(rank))
        return {axis % rank for axis in axes} if rank else set()
