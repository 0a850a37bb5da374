"""Resize and Upsample: exact where a part cut at matching places has the same coordinates as the whole.

With the scale p/q in lowest terms, q inputs and p outputs further on everything repeats, in the modes whose coordinates
do not depend on the tensor's length. So a part begins at a multiple of q inputs and yields from a multiple of p outputs
on; what it computes at a border that is none of the tensor's own is cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from flexpie.core.graph import AttributeValue
from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, sole, whole_inputs
from flexpie.core.tensor import ElementType

_CENTRED = frozenset({"half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"})
"""Modes in which pixels are areas: their middles meet, not their corners."""
_FLOATS = frozenset({ElementType.FLOAT16, ElementType.BFLOAT16, ElementType.FLOAT32, ElementType.FLOAT64})
_HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a resize does along one axis."""

    length: int
    """Of the input."""
    count: int
    """Of the output."""
    scale: Fraction
    divisible: bool
    """Whether a part can be computed."""
    offset: Fraction
    """Output x reads the input at ``(x + offset) / scale - offset``."""
    reach: int
    """Inputs read beside the position rounded down: before it, and one more behind. -1 for the nearest one only."""
    rounding: str = "floor"
    """How the nearest input is chosen."""

    def inputs(self, outputs: Interval) -> Interval:
        """The inputs to take: what the outputs read, widened to where everything repeats."""
        if not self.divisible:
            return Interval(0, self.length)
        if self.scale == 1:
            return outputs
        first, last = self._position(outputs.start), self._position(outputs.stop - 1)
        if self.reach < 0:
            start, stop = self._nearest(first), self._nearest(last) + 1
        else:
            start, stop = math.floor(first) - self.reach, math.ceil(last) + self.reach + 1
        start = max(0, min(start, math.floor(outputs.start / self.scale)))  # the part must yield these outputs, too
        stop = min(max(stop, math.ceil(outputs.stop / self.scale)), self.length)
        step = self.scale.denominator
        return Interval(start // step * step, min(-(-stop // step) * step, self.length))

    def yields(self, outputs: Interval) -> Interval:
        """The outputs that follow from these inputs."""
        if not self.divisible:
            return Interval(0, self.count)
        source = self.inputs(outputs)
        stop = self.count if source.stop == self.length else int(source.stop * self.scale)
        return Interval(int(source.start * self.scale), stop)

    def _position(self, output: int) -> Fraction:
        return (output + self.offset) / self.scale - self.offset

    def _nearest(self, position: Fraction) -> int:
        if self.rounding == "ceil":
            return math.ceil(position)
        if self.rounding == "floor":
            return math.floor(position)
        if self.rounding == "round_prefer_ceil":
            return math.floor(position + _HALF)
        return math.ceil(position - _HALF)


class ResizeRule(Rule):
    """X resized along some of its axes. Inputs are X and scales (Upsample, Resize up to version 10), or X, region of
    interest, scales and sizes, of which one is given."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only with known scales or sizes, and never where coordinates depend on the length or an input."""
        if bound.input(0).size == 0 or bound.output().size == 0 or bound.text("mode", "nearest") not in _REACH:
            return False
        return _samplings(bound) is not None

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Axes that cannot be divided are whole."""
        pairs = zip(_checked(bound), sole(wanted), strict=True)
        return (Region(part if axis.divisible else Interval(0, axis.count) for axis, part in pairs),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The inputs that outputs read, from places on at which everything repeats; scales, but no sizes."""
        regions = whole_inputs(bound)
        regions[0] = Region(axis.inputs(part) for axis, part in zip(_checked(bound), sole(produced), strict=True))
        if _has_sizes(bound):
            regions[3] = None
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The part's sizes. Of the modes that are the same here, the one that does not look at lengths."""
        geometry = _checked(bound)
        yielded = Region(axis.yields(part) for axis, part in zip(geometry, sole(produced), strict=True))
        attributes: dict[str, AttributeValue | None] = {}
        if _coordinates(bound) in {"pytorch_half_pixel", "half_pixel_symmetric"}:
            attributes["coordinate_transformation_mode"] = "half_pixel"
        if not _has_sizes(bound):
            return LocalForm(attributes, yields={0: yielded})
        return LocalForm(attributes, {3: tuple(yielded.shape[axis] for axis in _axes(bound))}, {0: yielded})

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per input that an output reads, on every resized axis."""
        resized = sum(axis.length != axis.count for axis in _checked(bound))
        taps = 2 * (_REACH[bound.text("mode", "nearest")] + 1)
        return (2 * taps**resized if taps else 0) * sole(produced).size


_REACH = {"nearest": -1, "linear": 0, "bilinear": 0, "cubic": 1}


def _checked(bound: BoundOperator) -> tuple[Sampling, ...]:
    geometry = _samplings(bound)
    assert geometry is not None, "used without asking supports()"
    return geometry


def _samplings(bound: BoundOperator) -> tuple[Sampling, ...] | None:
    """What happens along each axis; None where it is not known."""
    shape, output = bound.input(0).shape, bound.output().shape
    scales, coordinates = _scales(bound), _coordinates(bound)
    if scales is None or len(shape) != len(output) or min(scales, default=1) <= 0:
        return None
    if bound.text("mode", "nearest") != "nearest" and not _blends_exactly(bound, scales):
        return None
    if coordinates not in _CENTRED | {"asymmetric", "align_corners"}:
        return None
    resized = [axis for axis, scale in enumerate(scales) if scale != 1]
    if any(math.floor(length * scale) != count for length, scale, count in zip(shape, scales, output, strict=True)):
        return None
    if coordinates == "pytorch_half_pixel" and any(output[axis] == 1 for axis in resized):
        return None  # an axis of one pixel has coordinates of its own
    if coordinates == "half_pixel_symmetric" and any(shape[axis] * scales[axis] != output[axis] for axis in resized):
        return None
    return tuple(
        Sampling(
            length=shape[axis],
            count=output[axis],
            scale=scale,
            divisible=scale == 1 or (coordinates != "align_corners" and _repeats(bound, shape[axis], scale)),
            offset=_HALF if coordinates in _CENTRED else Fraction(0),
            reach=_REACH[bound.text("mode", "nearest")],
            rounding=_rounding(bound, scale),
        )
        for axis, scale in enumerate(scales)
    )


def _repeats(bound: BoundOperator, length: int, scale: Fraction) -> bool:
    """Whether a part can begin inside the tensor and has the coordinates of the whole; nearly so is not enough for
    the choice of the nearest input."""
    if bound.integer("antialias", 0) or scale.denominator >= length:
        return False
    return bound.text("mode", "nearest") != "nearest" or _is_power_of_two(scale.denominator)


def _blends_exactly(bound: BoundOperator, scales: tuple[Fraction, ...]) -> bool:
    """Whether blending is free of rounding errors, where results are integers: a part would not share the errors.

    Weights are multiples of 1/2p on every resized axis; with 8 bits of data they and all sums fit a float32.
    """
    if bound.input(0).dtype in _FLOATS:
        return True
    if bound.input(0).dtype not in {ElementType.INT8, ElementType.UINT8} or bound.text("mode", "") == "cubic":
        return False
    resized = [scale for scale in scales if scale != 1]
    exact = all(_is_power_of_two(scale.numerator) and _is_power_of_two(scale.denominator) for scale in resized)
    return exact and math.prod(2 * scale.numerator for scale in resized) <= 1 << 16


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _rounding(bound: BoundOperator, scale: Fraction) -> str:
    if bound.operator.op_type == "Upsample" or bound.operator.version < 11:
        return "floor" if scale > 1 else "ceil"
    return bound.text("nearest_mode", "round_prefer_floor")


def _coordinates(bound: BoundOperator) -> str:
    if bound.operator.op_type == "Upsample" or bound.operator.version < 11:
        return "asymmetric"
    return bound.text("coordinate_transformation_mode", "half_pixel")


def _axes(bound: BoundOperator) -> tuple[int, ...]:
    """The axes that scales or sizes are given for, in their order."""
    rank = len(bound.input(0).shape)
    axes = bound.integers("axes")
    return tuple(range(rank)) if axes is None else tuple(axis % rank for axis in axes)


def _has_sizes(bound: BoundOperator) -> bool:
    return len(bound.inputs) > 3 and bound.inputs[3] is not None and bound.input(3).size > 0


def _scales(bound: BoundOperator) -> tuple[Fraction, ...] | None:
    """The scale of each axis; None where it is not known."""
    shape, output, axes = bound.input(0).shape, bound.output().shape, _axes(bound)
    found = [Fraction(1)] * len(shape)
    if _has_sizes(bound):
        if bound.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        for axis in axes:
            found[axis] = Fraction(output[axis], shape[axis])
        return tuple(found)
    given = bound.real_numbers("scales")
    index = 1 if bound.operator.op_type == "Upsample" or bound.operator.version < 11 else 2
    if given is None and index < len(bound.reals):
        given = bound.reals[index]
    if given is None or len(given) != len(axes):
        return None
    for axis, scale in zip(axes, given, strict=True):
        found[axis] = Fraction(scale)
    return tuple(found)
