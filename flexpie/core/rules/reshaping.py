"""Operators that keep the order of the elements and change only the shape around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, CopyRule, LocalForm, Regions, sole, whole_inputs
from flexpie.core.tensor import Shape


@dataclass(frozen=True)
class Factorization:
    """Two shapes of the same elements, both as products of the same finest factors, in row-major order.

    Both shapes [4, 6] and [2, 2, 2, 3] are made of the factors (2, 2, 2, 3). A box of one shape is a box of the
    other when it is a box of factors that is contiguous on every axis of both.
    """

    factors: tuple[int, ...]
    """Outer first. Those in the middle of an axis without common factors mean nothing."""
    axes: tuple[tuple[tuple[int, ...] | None, ...], ...]
    """Per shape and axis: indices of its factors, outer first; None where the axis has no common factors with the
    other shape and must stay whole."""

    def common_box(self, side: int, region: Region) -> Region:
        """The smallest box of factors around a region of one of the shapes that is a box of both shapes."""
        box = [Interval(0, factor) for factor in self.factors]
        for indices, interval in zip(self.axes[side], region, strict=True):
            self._restrict(box, indices or (), interval)
        settled = False
        while not settled:
            settled = True
            for indices in (indices for axes in self.axes for indices in axes if indices):
                ranged = False
                for index in indices:
                    if ranged and box[index].length < self.factors[index]:
                        box[index], settled = Interval(0, self.factors[index]), False
                    ranged = ranged or box[index].length > 1
        return Region(box)

    def region(self, side: int, shape: Shape, box: Region) -> Region:
        """The region of one of the shapes that a common box is."""
        intervals = []
        for indices, length in zip(self.axes[side], shape, strict=True):
            start = last = 0
            for index in indices or ():
                start = start * self.factors[index] + box[index].start
                last = last * self.factors[index] + box[index].stop - 1
            intervals.append(Interval(0, length) if indices is None else Interval(start, last + 1))
        return Region(intervals)

    def _restrict(self, box: list[Interval], indices: Sequence[int], interval: Interval) -> None:
        """Narrow the factors of an axis to the least box around an interval."""
        start, last = interval.start, interval.stop - 1
        for position, index in enumerate(indices):
            inner = math.prod(self.factors[later] for later in indices[position + 1 :])
            box[index] = Interval(start // inner, last // inner + 1)
            if box[index].length > 1:
                return
            start, last = start % inner, last % inner


@lru_cache(maxsize=4096)
def factorize(first: Shape, second: Shape) -> Factorization:
    """Finest common factors of two shapes with the same, positive number of elements."""
    strides = [_strides(first), _strides(second)]
    borders = sorted({1, *(stride for both in strides for pair in both for stride in pair)}, reverse=True)
    factors: list[int] = []
    position: dict[int, int] = {borders[0]: 0}
    """Per element count: how many factors are outside of it."""
    opaque: list[tuple[int, int]] = []
    for outer, inner in pairwise(borders):
        factors.append(outer // inner)
        position[inner] = len(factors)
        if outer % inner:
            opaque.append((outer, inner))
    common = {outer for outer, _ in strides[0]} & {outer for outer, _ in strides[1]}
    common |= {1, borders[0]}
    blocks = [(min(b for b in common if b >= outer), max(b for b in common if b <= inner)) for outer, inner in opaque]
    axes = tuple(
        tuple(
            None
            if any(inner < high and outer > low for high, low in blocks)
            else tuple(range(position[outer], position[inner]))
            for outer, inner in both
        )
        for both in strides
    )
    return Factorization(tuple(factors), axes)


def _strides(shape: Shape) -> list[tuple[int, int]]:
    """Per axis: elements of one step of the axis outside of it, and of its own step."""
    inner = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return [(step * length, step) for step, length in zip(inner, shape, strict=True)]


class ReshapeRule(CopyRule):
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the same order."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not the oldest Reshape, and not where the numbers of elements differ."""
        if bound.operator.op_type == "Reshape" and bound.operator.version < 5:
            return False
        if _squeezes_implicitly(bound) and 1 not in bound.input(0).shape:
            return False  # no axes cannot be said: an empty list means all axes of length 1
        return bound.input(0).size == bound.output().size > 0

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """Where no shape changes."""
        return input_index == 0 and bound.input(0).shape == bound.output().shape

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The least growth that is a box of both shapes."""
        common = self._factorization(bound)
        shape = bound.output().shape
        return (common.region(1, shape, common.common_box(1, sole(wanted))),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same elements; no target shape."""
        common = self._factorization(bound)
        box = common.common_box(1, sole(produced))
        parameters = whole_inputs(bound)[1:]
        if bound.operator.op_type == "Reshape":
            parameters = [None] * len(parameters)
        return (common.region(0, bound.input(0).shape, box), *parameters)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Reshape gets the part's shape. Squeeze without axes gets them, lest it takes away axes that have
        length 1 in this part only."""
        if bound.operator.op_type == "Reshape":
            return LocalForm(constants={1: sole(produced).shape})
        if _squeezes_implicitly(bound):
            axes = tuple(axis for axis, length in enumerate(bound.input(0).shape) if length == 1)
            return LocalForm({"axes": axes}) if bound.operator.version < 13 else LocalForm(constants={1: axes})
        return LocalForm()

    @staticmethod
    def _factorization(bound: BoundOperator) -> Factorization:
        return factorize(bound.input(0).shape, bound.output().shape)


def _squeezes_implicitly(bound: BoundOperator) -> bool:
    """Whether a Squeeze takes away every axis of length 1, because it names none."""
    named = "axes" in bound.operator.attributes or any(spec is not None for spec in bound.inputs[1:])
    return bound.operator.op_type == "Squeeze" and not named


class TransposeRule(CopyRule):
    """Transpose: axes in another order."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same intervals, each on its axis of the input."""
        region = sole(produced)
        order = bound.integers("perm") or tuple(reversed(range(len(region))))
        return (Region(region[order.index(axis)] for axis in range(len(region))),)
