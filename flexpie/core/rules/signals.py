"""Fourier transforms and determinants: one axis, one frame, one matrix at a time."""

from __future__ import annotations

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole, whole_inputs


class FourierRule(Rule):
    """DFT: a signal along one axis; the last axis holds real and imaginary parts."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where the axis is known, and not the last."""
        axis, rank = self._given_axis(bound), len(bound.input(0).shape)
        if not has_elements(bound) or len(bound.output().shape) != rank or axis is None:
            return False
        return -rank <= axis < rank and axis % rank != rank - 1

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The axis and the parts whole."""
        whole = bound.output().whole
        return (sole(wanted).with_axis(self._axis(bound), whole[self._axis(bound)]).with_axis(-1, whole[-1]),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of the signals, whole along the axis and in their parts."""
        whole = bound.input(0).whole
        region = sole(produced).with_axis(self._axis(bound), whole[self._axis(bound)]).with_axis(-1, whole[-1])
        return (region, *whole_inputs(bound)[1:])

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Of the fast transform: five per element and halving of the axis."""
        return 5 * sole(produced).size * max(1, bound.input(0).shape[self._axis(bound)].bit_length() - 1)

    @staticmethod
    def _given_axis(bound: BoundOperator) -> int | None:
        if bound.operator.version < 20:
            return bound.integer("axis", 1)
        if len(bound.inputs) < 3 or bound.inputs[2] is None:
            return -2
        known = bound.constants[2]
        return known[0] if known else None

    def _axis(self, bound: BoundOperator) -> int:
        axis = self._given_axis(bound)
        assert axis is not None, "used without asking supports()"
        return axis % len(bound.input(0).shape)


class ShortFourierRule(Rule):
    """STFT: signals [batch, samples, parts] to [batch, frames, frequencies, 2], frames `frame_step` samples apart."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where step and length of frames are known."""
        if not has_elements(bound) or len(bound.output().shape) != 4 or bound.constants[1] is None:
            return False
        step, length, frames = self._step(bound), self._length(bound), bound.output().shape[1]
        return step > 0 and length is not None and (frames - 1) * step + length <= bound.input(0).shape[1]

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """All frequencies."""
        return (Region((*sole(wanted)[:2], *bound.output().whole[2:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The samples under the frames."""
        batch, frames = sole(produced)[:2]
        step, length, regions = self._step(bound), self._length(bound) or 0, whole_inputs(bound)
        samples = Interval(frames.start * step, (frames.stop - 1) * step + length)
        regions[0] = Region((batch, samples, *bound.input(0).whole[2:]))
        return tuple(regions)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """As DFT, for every frame."""
        return 5 * sole(produced).size * max(1, (self._length(bound) or 1).bit_length() - 1)

    @staticmethod
    def _step(bound: BoundOperator) -> int:
        return (bound.constants[1] or (0,))[0]

    @staticmethod
    def _length(bound: BoundOperator) -> int | None:
        if len(bound.inputs) > 2 and bound.inputs[2] is not None:
            return bound.input(2).shape[0]
        known = bound.constants[3] if len(bound.constants) > 3 else None
        return known[0] if known else None


class DeterminantRule(Rule):
    """Det: matrices [..., M, M] to [...]."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The matrices of the part."""
        return (Region((*sole(produced), *bound.input(0).whole[-2:])),)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Of an elimination."""
        return sole(produced).size * bound.input(0).shape[-1] ** 3
