"""Operators that sample a picture at places that an input names: the picture is needed whole, the places are not."""

from __future__ import annotations

import math

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole, whole_inputs


class GridSampleRule(Rule):
    """X [N, C, ...] at the places of a grid [N, places..., axes] to [N, C, places...]."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The channels of X, whole; the places."""
        batch, channels, *places = sole(produced)
        x, grid = bound.input(0).whole, bound.input(1).whole
        return Region((batch, channels, *x[2:])), Region((batch, *places, grid[-1]))

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per corner, as in the mode linear."""
        return 2 * math.prod(2 for _ in bound.input(0).shape[2:]) * sole(produced).size


class RegionPoolRule(Rule):
    """RoiAlign, MaxRoiPool: X [N, C, H, W] in boxes [R, ...] to [R, C, ...]; RoiAlign names each box's picture."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where boxes and output do not fit."""
        return has_elements(bound) and all(
            spec is not None and spec.shape[0] == bound.output().shape[0] for spec in bound.inputs[1:]
        )

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole boxes."""
        return (Region((*sole(wanted)[:2], *bound.output().whole[2:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The channels of every picture, whole; the boxes."""
        boxes, channels = sole(produced)[:2]
        own = [bound.input(index).whole.with_axis(0, boxes) for index in range(1, len(bound.inputs))]
        return (bound.input(0).whole.with_axis(1, channels), *own)


class DeformConvRule(Rule):
    """X [N, C, H, W], filters [M, C/groups, ...], offsets and masks per output place to [N, M, ...]; biases [M]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where there is nothing."""
        return has_elements(bound) and bound.input(1).shape[0] == bound.output().shape[1]

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Places count from the tensor's origin: whole; with several groups, channels too."""
        batch, channels = sole(wanted)[:2]
        whole = bound.output().whole
        return (Region((batch, channels if bound.integer("group", 1) == 1 else whole[1], *whole[2:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Whole pictures, and the filters and biases of the channels."""
        batch, channels = sole(produced)[:2]
        regions = whole_inputs(bound)
        for index, spec in enumerate(bound.inputs):
            if spec is not None:
                axis, part = (0, channels) if index in {1, 3} else (0, batch)
                regions[index] = spec.whole.with_axis(axis, part)
        return tuple(regions)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Two per filter tap and output element, and as much again for sampling."""
        return 4 * math.prod(bound.input(1).shape[1:]) * sole(produced).size


class Col2ImRule(Rule):
    """Columns [N, C · block, places] to pictures [N, C, ...]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where there is nothing."""
        return has_elements(bound) and bound.input(0).shape[1] % bound.output().shape[1] == 0

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole pictures."""
        return (Region((*sole(wanted)[:2], *bound.output().whole[2:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The channels' blocks at all places."""
        batch, channels = sole(produced)[:2]
        columns = bound.input(0)
        block = columns.shape[1] // bound.output().shape[1]
        own = Region((batch, Interval(channels.start * block, channels.stop * block), columns.whole[2]))
        return (own, *whole_inputs(bound)[1:])
