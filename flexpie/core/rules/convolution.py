"""Conv: windows on the spatial axes, weights sliced along the output channels, groups kept together."""

from __future__ import annotations

import math

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, sole
from flexpie.core.rules.windows import Window, local_pads, windows


class ConvRule(Rule):
    """Inputs: X [N, C, ...], W [M, C/groups, ...], B [M]; output [N, M, ...]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where shapes contradict the attributes."""
        if not has_elements(bound):
            return False
        x, w, y = bound.input(0).shape, bound.input(1).shape, bound.output().shape
        groups = bound.integer("group", 1)
        if len(x) < 3 or len(w) != len(x) or len(y) != len(x):
            return False
        if groups < 1 or w[1] * groups != x[1] or w[0] % groups or y[1] != w[0]:
            return False
        return windows(bound, w[2:]) is not None

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Channels grow to whole groups when they touch several; windows must meet the input."""
        batch, channels, *spatial = sole(wanted)
        size = self._group_size(bound)
        first, last = channels.start // size, (channels.stop - 1) // size
        if first != last:
            channels = Interval(first * size, (last + 1) * size)
        rounded = [window.round(part) for window, part in zip(self._windows(bound), spatial, strict=True)]
        return (Region((batch, channels, *rounded)),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The halo of X in the input channels of the groups, and the output channels' filters and biases."""
        batch, channels, *spatial = sole(produced)
        groups, per_group = self._groups(bound, channels), bound.input(1).shape[1]
        sources = Interval(groups.start * per_group, groups.stop * per_group)
        seen = [window.inputs(part) for window, part in zip(self._windows(bound), spatial, strict=True)]
        regions: list[Region | None] = [
            Region((batch, sources, *seen)),
            bound.input(1).whole.with_axis(0, channels),
        ]
        if len(bound.inputs) > 2:
            regions.append(Region((channels,)) if bound.inputs[2] is not None else None)
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Explicit pads, and the number of groups that are left."""
        _, channels, *spatial = sole(produced)
        return LocalForm(
            {
                "auto_pad": None,
                "pads": local_pads(self._windows(bound), spatial),
                "group": self._groups(bound, channels).length,
            }
        )

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Two per filter tap and output element."""
        return 2 * math.prod(bound.input(1).shape[1:]) * sole(produced).size

    @staticmethod
    def _group_size(bound: BoundOperator) -> int:
        """Output channels of a group."""
        return bound.input(1).shape[0] // bound.integer("group", 1)

    def _groups(self, bound: BoundOperator, channels: Interval) -> Interval:
        size = self._group_size(bound)
        return Interval(channels.start // size, (channels.stop - 1) // size + 1)

    @staticmethod
    def _windows(bound: BoundOperator) -> tuple[Window, ...]:
        geometry = windows(bound, bound.input(1).shape[2:])
        assert geometry is not None, "used without asking supports()"
        return geometry
