"""Convolutions: windows on the spatial axes, weights sliced along the output channels, groups kept together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, sole, whole_inputs
from flexpie.core.rules.windows import Window, local_pads, windows


@dataclass(frozen=True)
class ConvRule(Rule):
    """Conv, QLinearConv, ConvInteger: X [N, C, ...] and filters [M, C/groups, ...] to [N, M, ...]."""

    filters: int = 1
    """Index of the filters among the inputs; X is the first."""
    per_channel: tuple[int, ...] = (2,)
    """Inputs with one value per output channel, or one for all of them (biases, scales, zero points)."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where shapes contradict the attributes."""
        if not has_elements(bound):
            return False
        x, w, y = bound.input(0).shape, bound.input(self.filters).shape, bound.output().shape
        groups = bound.integer("group", 1)
        if len(x) < 3 or len(w) != len(x) or len(y) != len(x):
            return False
        if groups < 1 or w[1] * groups != x[1] or w[0] % groups or y[1] != w[0]:
            return False
        if any(bound.input(index).shape not in {(), (1,), (w[0],)} for index in self._parameters(bound)):
            return False
        return windows(bound, w[2:]) is not None

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Channels grow to whole groups when they touch several; windows must meet the input."""
        batch, channels, *spatial = sole(wanted)
        rounded = [window.round(part) for window, part in zip(self._windows(bound), spatial, strict=True)]
        return (Region((batch, whole_groups(channels, self._group_size(bound)), *rounded)),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The halo of X in the input channels of the groups, and the output channels' filters and parameters."""
        batch, channels, *spatial = sole(produced)
        groups, per_group = touched_groups(channels, self._group_size(bound)), bound.input(self.filters).shape[1]
        sources = Interval(groups.start * per_group, groups.stop * per_group)
        seen = [window.inputs(part) for window, part in zip(self._windows(bound), spatial, strict=True)]
        regions = whole_inputs(bound)
        regions[0] = Region((batch, sources, *seen))
        regions[self.filters] = bound.input(self.filters).whole.with_axis(0, channels)
        for index in self._parameters(bound):
            if bound.input(index).size > 1:
                regions[index] = Region((channels,))
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Explicit pads, and the number of groups that are left."""
        _, channels, *spatial = sole(produced)
        return LocalForm(
            {
                "auto_pad": None,
                "pads": local_pads(self._windows(bound), spatial),
                "group": touched_groups(channels, self._group_size(bound)).length,
            }
        )

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Two per filter tap and output element."""
        return 2 * math.prod(bound.input(self.filters).shape[1:]) * sole(produced).size

    def _parameters(self, bound: BoundOperator) -> list[int]:
        return [index for index in self.per_channel if index < len(bound.inputs) and bound.inputs[index] is not None]

    def _group_size(self, bound: BoundOperator) -> int:
        """Output channels of a group."""
        return bound.input(self.filters).shape[0] // bound.integer("group", 1)

    def _windows(self, bound: BoundOperator) -> tuple[Window, ...]:
        geometry = windows(bound, bound.input(self.filters).shape[2:])
        assert geometry is not None, "used without asking supports()"
        return geometry


def touched_groups(members: Interval, size: int) -> Interval:
    """The groups of `size` members each that some of the members belong to."""
    return Interval(members.start // size, (members.stop - 1) // size + 1)


def whole_groups(members: Interval, size: int) -> Interval:
    """Part of one group as it is; more than that grows to whole groups, as only those are groups again."""
    groups = touched_groups(members, size)
    return members if groups.length == 1 else Interval(groups.start * size, groups.stop * size)
