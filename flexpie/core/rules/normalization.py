"""Normalisations: some axes whole, parameters cut along the channels."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from flexpie.core.region import Interval, Region
from flexpie.core.rules.axes import SameShapeRule
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, sole
from flexpie.core.rules.pointwise import broadcast_source, broadcasts


class BatchNormalizationRule(Rule):
    """Inference: X [N, C, ...], and scale, bias, mean and variance [C] each."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only in inference, and with statistics per channel."""
        return (
            has_elements(bound)
            and len(bound.input(0).shape) >= 2
            and bound.integer("training_mode", 0) == 0
            and bound.integer("spatial", 1) == 1
            and bound.operator.version >= 7
            and all(spec is None for spec in bound.outputs[1:])
            and all(bound.input(index).shape == bound.input(0).shape[1:2] for index in range(1, 5))
        )

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """X only."""
        return input_index == 0

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The first output, as wanted."""
        return (sole(wanted), *[None] * (len(bound.outputs) - 1))

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of X, and the statistics of its channels."""
        region = sole(produced)
        return (region, *[Region((region[1],))] * 4)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per element."""
        return 2 * sole(produced).size


class LayerNormalizationRule(Rule):
    """X, scale and bias; normalised over the axes from `axis` on. Mean and inverse deviation may be read, too."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where scale or bias do not fit X."""
        shape = bound.input(0).shape
        parameters = [spec for spec in bound.inputs[1:] if spec is not None]
        return (
            has_elements(bound)
            and bound.outputs[0] is not None
            and all(broadcasts(spec.shape, shape) for spec in parameters)
            and all(spec is None or len(spec.shape) == len(shape) for spec in bound.outputs)
        )

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Every output for the same leading axes; no statistics unless they are wanted."""
        shape, axis = bound.input(0).shape, self._axis(bound)
        present = [Region(region[:axis]) for region in wanted if region is not None]
        outer = present[0]
        for region in present[1:]:
            outer = outer.hull(region)
        one = (Interval(0, 1),) * (len(shape) - axis)
        statistics = [None if region is None else Region((*outer, *one)) for region in wanted[1:]]
        return (Region((*outer, *Region.whole(shape[axis:]))), *statistics)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of X, and what scale and bias repeat to it."""
        region, shape = sole(produced), bound.input(0).shape
        parameters = [
            None if spec is None else broadcast_source(spec.shape, shape, region) for spec in bound.inputs[1:]
        ]
        return (region, *parameters)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """About eight per element: two sums, a difference, a square, a quotient, a multiply-add."""
        return 8 * sole(produced).size

    @staticmethod
    def _axis(bound: BoundOperator) -> int:
        return bound.integer("axis", -1) % len(bound.input(0).shape)


class RootMeanSquareRule(LayerNormalizationRule):
    """RMSNormalization: X and scale; normalised over the axes from `axis` on."""

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """About five per element: a square, a sum, a quotient, a multiply-add."""
        return 5 * sole(produced).size


class InstanceNormalizationRule(Rule):
    """X [N, C, ...], scale [C], bias [C]: every channel of every picture for itself."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where there are no channels."""
        return has_elements(bound) and len(bound.input(0).shape) >= 3

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The spatial axes whole."""
        return (Region((*sole(wanted)[:2], *bound.output().whole[2:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of X, and the parameters of its channels."""
        region = sole(produced)
        return (region, *[Region((region[1],))] * 2)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """As LayerNormalization."""
        return 8 * sole(produced).size


class GroupNormalizationRule(Rule):
    """X [N, C, ...]; scale and bias per channel, or per group before version 21."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where channels and groups do not fit."""
        if not has_elements(bound) or len(bound.input(0).shape) < 3:
            return False
        channels, groups = bound.input(0).shape[1], bound.integer("num_groups", 0)
        parameters = groups if bound.operator.version < 21 else channels
        return (
            groups > 0 and channels % groups == 0 and all(bound.input(index).shape == (parameters,) for index in (1, 2))
        )

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole groups, whole spatial axes."""
        batch, channels = sole(wanted)[:2]
        groups, size = self._groups(bound, channels), self._group_size(bound)
        rounded = Interval(groups.start * size, groups.stop * size)
        return (Region((batch, rounded, *bound.output().whole[2:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of X, and the parameters of its channels or groups."""
        region = sole(produced)
        own = self._groups(bound, region[1]) if bound.operator.version < 21 else region[1]
        return (region, *[Region((own,))] * 2)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The number of groups that are left."""
        return LocalForm({"num_groups": self._groups(bound, sole(produced)[1]).length})

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """As LayerNormalization."""
        return 8 * sole(produced).size

    @staticmethod
    def _group_size(bound: BoundOperator) -> int:
        return bound.input(0).shape[1] // bound.integer("num_groups", 1)

    def _groups(self, bound: BoundOperator, channels: Interval) -> Interval:
        size = self._group_size(bound)
        return Interval(channels.start // size, (channels.stop - 1) // size + 1)


class LocalResponseRule(SameShapeRule):
    """LRN: neighbouring channels count, which at the border of a part would be missing."""

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The channels."""
        return {1}

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per neighbour, and the power."""
        return (2 * bound.integer("size", 1) + 2) * sole(produced).size


class MeanVarianceRule(SameShapeRule):
    """MeanVarianceNormalization over `axes`."""

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The normalised axes."""
        axes = bound.integers("axes")
        rank = len(bound.output().shape)
        return {axis % rank for axis in ((0, 2, 3) if axes is None else axes) if rank and -rank <= axis < rank}

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """As LayerNormalization."""
        return 8 * sole(produced).size


class LpNormalizationRule(SameShapeRule):
    """LpNormalization along `axis`."""

    def whole_axes(self, bound: BoundOperator) -> AbstractSet[int]:
        """The normalised axis."""
        return {bound.integer("axis", -1) % len(bound.output().shape)}

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add and a quotient."""
        return 3 * sole(produced).size
