"""Quantised operators: scales and zero points are one for all, or follow an axis of the data. Integers stay exact."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.region import Interval, Region
from flexpie.core.rules.axes import SoftmaxRule
from flexpie.core.rules.base import BoundOperator, CopyRule, LocalForm, Regions, Rule, has_elements, sole, whole_inputs
from flexpie.core.rules.matrix import GemmRule
from flexpie.core.rules.pointwise import UnaryRule, broadcast_source, broadcasts
from flexpie.core.rules.pooling import GlobalPoolRule, PoolRule


class QuantizeRule(UnaryRule):
    """QuantizeLinear, DequantizeLinear: X, and scale and zero point of all of it or of each place on `axis`."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not in blocks along an axis."""
        if not super().supports(bound) or bound.integer("block_size", 0):
            return False
        return all(spec is None or spec.size == 1 or self._follows(bound, spec.shape) for spec in bound.inputs[1:])

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of X, and what belongs to its part of the axis."""
        region = sole(produced)
        axis = bound.integer("axis", 1)
        parameters = [
            None if spec is None else spec.whole if spec.size == 1 else Region((region[axis],))
            for spec in bound.inputs[1:]
        ]
        return (region, *parameters)

    @staticmethod
    def _follows(bound: BoundOperator, shape: tuple[int, ...]) -> bool:
        axis, data = bound.integer("axis", 1), bound.input(0).shape
        return -len(data) <= axis < len(data) and shape == (data[axis],)


@dataclass(frozen=True)
class QuantizedBroadcastRule(Rule):
    """QLinearAdd, QLinearMul, QLinearWhere: element-wise, each operand followed by one scale and one zero point."""

    operands: tuple[int, ...]
    """Indices of the operands among the inputs; the others are parameters, taken whole."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with a parameter per channel."""
        output = bound.output().shape
        return has_elements(bound) and all(
            broadcasts(spec.shape, output) if index in self.operands else spec.size == 1
            for index, spec in enumerate(bound.inputs)
            if spec is not None
        )

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """An operand that is not repeated."""
        return input_index in self.operands and bound.input(input_index).shape == bound.output().shape

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What is repeated to the region."""
        regions, output = whole_inputs(bound), bound.output().shape
        for index in self.operands:
            regions[index] = broadcast_source(bound.input(index).shape, output, sole(produced))
        return tuple(regions)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Three per output element: two steps of scaling and the operation."""
        return 3 * sole(produced).size


class QuantizedConcatRule(CopyRule):
    """QLinearConcat: scale and zero point of the output, then each input with its own."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where every input has both."""
        count = len(bound.inputs)
        return bound.output().size > 0 and "axis" in bound.operator.attributes and count > 4 and count % 3 == 2

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What each input has of the region; None, also for its parameters, where nothing."""
        region = sole(produced)
        axis = bound.integer("axis", 1) % len(region)
        start, found = 0, whole_inputs(bound)
        for index in range(2, len(bound.inputs), 3):
            stop = start + bound.input(index).shape[axis]
            common = region[axis].intersect(Interval(start, stop))
            if common.length:
                found[index] = region.with_axis(axis, Interval(common.start - start, common.stop - start))
            else:
                found[index : index + 3] = [None] * 3
            start = stop
        return tuple(found)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Without the inputs of which nothing is needed."""
        return LocalForm(dropped=frozenset(index for index, region in enumerate(needed) if region is None))


class QuantizedPoolRule(PoolRule):
    """QLinearAveragePool in the order of axes of AveragePool."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with the channels last."""
        return not bound.integer("channels_last", 0) and super().supports(bound)


class QuantizedGlobalPoolRule(GlobalPoolRule):
    """QLinearGlobalAveragePool in the order of axes of GlobalAveragePool."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with the channels last."""
        return not bound.integer("channels_last", 0) and super().supports(bound)


class QuantizedSoftmaxRule(SoftmaxRule):
    """QLinearSoftmax: the meaning of `axis` depends on an attribute, for it has a version of its own."""

    def _version(self, bound: BoundOperator) -> int:
        return bound.integer("opset", 1)


class QuantizedGemmRule(GemmRule):
    """QGemm: A, its scale and zero point, B with its own (per column at most), C, then those of the output."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where parameters or C have other shapes."""
        if not has_elements(bound) or len(bound.input(0).shape) != 2 or len(bound.output().shape) != 2:
            return False
        output, columns = bound.output().shape, bound.output().shape[1:]
        c = bound.inputs[6] if len(bound.inputs) > 6 else None
        return all(
            spec is None or spec.size == 1 or (index in {4, 5} and spec.shape == columns)
            for index, spec in enumerate(bound.inputs)
            if index not in {0, 3, 6}
        ) and (c is None or broadcasts(c.shape, output))

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Rows of A, columns of B and what belongs to them, and what C repeats to the region."""
        regions, region = whole_inputs(bound), sole(produced)
        regions[0], regions[3] = self._factors(bound, region)
        for index in (4, 5):
            if bound.inputs[index] is not None and bound.input(index).size > 1:
                regions[index] = Region((region[1],))
        if len(bound.inputs) > 6 and bound.inputs[6] is not None:
            regions[6] = broadcast_source(bound.input(6).shape, bound.output().shape, region)
        return tuple(regions)
