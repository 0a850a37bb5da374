"""DepthToSpace and SpaceToDepth: blocks of a picture become channels, and back."""

from __future__ import annotations

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, CopyRule, Regions, has_elements, sole


class DepthToSpaceRule(CopyRule):
    """X [N, C·b², H, W] to [N, C, H·b, W·b]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only with a block size that fits."""
        return (
            has_elements(bound)
            and _block(bound) > 0
            and bound.input(0).shape[2] * _block(bound) == (bound.output().shape[2])
        )

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole blocks. Channels are whole in the mode DCR, which deals them out."""
        batch, channels, rows, columns = sole(wanted)
        if not self._keeps_channels_together(bound):
            channels = Interval(0, bound.output().shape[1])
        block = _block(bound)
        return (Region((batch, channels, _round(rows, block), _round(columns, block))),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """One element per block, in all channels that a block is made of."""
        batch, channels, rows, columns = sole(produced)
        block = _block(bound)
        sources = Interval(channels.start * block * block, channels.stop * block * block)
        return (Region((batch, sources, _divide(rows, block), _divide(columns, block))),)

    @staticmethod
    def _keeps_channels_together(bound: BoundOperator) -> bool:
        return bound.text("mode", "DCR") == "CRD"


class SpaceToDepthRule(CopyRule):
    """X [N, C, H·b, W·b] to [N, C·b², H, W]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only with a block size that fits, and in the mode that deals channels out."""
        return has_elements(bound) and _block(bound) > 0 and "mode" not in bound.operator.attributes

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """All channels."""
        return (sole(wanted).with_axis(1, Interval(0, bound.output().shape[1])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The blocks."""
        batch, _, rows, columns = sole(produced)
        channels, block = Interval(0, bound.input(0).shape[1]), _block(bound)
        return (Region((batch, channels, _multiply(rows, block), _multiply(columns, block))),)


def _block(bound: BoundOperator) -> int:
    return bound.integer("blocksize", 0)


def _divide(interval: Interval, block: int) -> Interval:
    return Interval(interval.start // block, -(-interval.stop // block))


def _multiply(interval: Interval, block: int) -> Interval:
    return Interval(interval.start * block, interval.stop * block)


def _round(interval: Interval, block: int) -> Interval:
    return _multiply(_divide(interval, block), block)
