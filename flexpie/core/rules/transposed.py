"""ConvTranspose: every input element adds a filter's worth of outputs, `stride` apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, sole
from flexpie.core.rules.convolution import touched_groups, whole_groups


@dataclass(frozen=True, slots=True)
class Spread:
    """Geometry of a transposed convolution on one spatial axis."""

    length: int
    """Of the input."""
    count: int
    """Length of the output."""
    kernel: int
    stride: int
    dilation: int
    pad_begin: int
    pad_end: int
    added: int
    """The attribute `output_padding`."""

    @property
    def extent(self) -> int:
        """Outputs from the first to the last that one input adds to, gaps included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def is_sound(self) -> bool:
        """Whether geometry and shapes agree."""
        if min(self.pad_begin, self.pad_end, self.added) < 0 or min(self.kernel, self.stride, self.dilation) < 1:
            return False
        full = (self.length - 1) * self.stride + self.extent + self.added
        return self.count == full - self.pad_begin - self.pad_end

    def inputs(self, outputs: Interval) -> Interval:
        """The inputs that add to some outputs: one at least, even where outputs lie in gaps between strides.

        Input i adds to ``[i·s - p, i·s - p + extent)``.
        """
        first, last = outputs.start + self.pad_begin, outputs.stop - 1 + self.pad_begin
        start = min(-((self.extent - 1 - first) // self.stride), first // self.stride)
        start = min(max(0, start), self.length - 1)
        return Interval(start, min(last // self.stride, self.length - 1) + 1)

    def pads(self, outputs: Interval) -> tuple[int, int, int]:
        """What to cut off before and behind, and what to add behind, of what the needed inputs yield."""
        source = self.inputs(outputs)
        begin = outputs.start + self.pad_begin - source.start * self.stride
        end = (source.stop - 1) * self.stride + self.extent - (outputs.stop + self.pad_begin)
        return begin, max(0, end), max(0, -end)


_PADDINGS = frozenset({"NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"})


class ConvTransposeRule(Rule):
    """X [N, C, ...] and filters [C, M/groups, ...] to [N, M, ...]; biases [M]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where shapes contradict the attributes, or pads follow from them that differ between runtimes."""
        if not has_elements(bound) or bound.text("auto_pad", "NOTSET") not in _PADDINGS:
            return False
        x, w, y = bound.input(0).shape, bound.input(1).shape, bound.output().shape
        groups = bound.integer("group", 1)
        if len(x) < 3 or len(w) != len(x) or len(y) != len(x):
            return False
        if groups < 1 or w[0] != x[1] or x[1] % groups or y[1] != w[1] * groups:
            return False
        return _spreads(bound) is not None

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Channels grow to whole groups when they touch several."""
        region = sole(wanted)
        return (region.with_axis(1, whole_groups(region[1], bound.input(1).shape[1])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The inputs that reach the outputs, in the channels of the groups; their filters and biases."""
        batch, channels, *spatial = sole(produced)
        filters = bound.input(1)
        groups = touched_groups(channels, filters.shape[1])
        per_group = filters.shape[0] // bound.integer("group", 1)
        sources = Interval(groups.start * per_group, groups.stop * per_group)
        own = Interval(0, filters.shape[1])
        if groups.length == 1:
            first = groups.start * filters.shape[1]
            own = Interval(channels.start - first, channels.stop - first)
        seen = [spread.inputs(part) for spread, part in zip(_checked(bound), spatial, strict=True)]
        regions: list[Region | None] = [
            Region((batch, sources, *seen)),
            filters.whole.with_axis(0, sources).with_axis(1, own),
        ]
        if len(bound.inputs) > 2:
            regions.append(None if bound.inputs[2] is None else Region((channels,)))
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Explicit pads, and the number of groups that are left."""
        _, channels, *spatial = sole(produced)
        pads = [spread.pads(part) for spread, part in zip(_checked(bound), spatial, strict=True)]
        return LocalForm(
            {
                "auto_pad": None,
                "output_shape": None,
                "pads": tuple(begin for begin, _, _ in pads) + tuple(end for _, end, _ in pads),
                "output_padding": tuple(added for _, _, added in pads),
                "group": touched_groups(channels, bound.input(1).shape[1]).length,
            }
        )

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Two per filter tap and input element that reaches the part."""
        batch, channels, *spatial = sole(produced)
        seen = [spread.inputs(part).length for spread, part in zip(_checked(bound), spatial, strict=True)]
        shape = bound.input(1).shape
        per_group = shape[0] // bound.integer("group", 1)
        return 2 * batch.length * channels.length * per_group * math.prod(shape[2:]) * math.prod(seen)


def _checked(bound: BoundOperator) -> tuple[Spread, ...]:
    geometry = _spreads(bound)
    assert geometry is not None, "used without asking supports()"
    return geometry


def _spreads(bound: BoundOperator) -> tuple[Spread, ...] | None:
    """The geometry of each spatial axis; None where attributes and shapes disagree."""
    lengths, counts, kernel = bound.input(0).shape[2:], bound.output().shape[2:], bound.input(1).shape[2:]
    rank = len(lengths)
    strides = bound.integers("strides") or (1,) * rank
    dilations = bound.integers("dilations") or (1,) * rank
    pads = bound.integers("pads") or (0,) * (2 * rank)
    added = bound.integers("output_padding") or (0,) * rank
    padding = bound.text("auto_pad", "NOTSET")
    if padding == "VALID":
        pads = (0,) * (2 * rank)
    if {len(counts), len(kernel), len(strides), len(dilations), len(pads) // 2, len(added)} != {rank}:
        return None
    found = []
    for axis in range(rank):
        begin, end = pads[axis], pads[axis + rank]
        if padding.startswith("SAME") or "output_shape" in bound.operator.attributes:
            full = (lengths[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + added[axis]
            begin = end = (full - counts[axis]) // 2  # when odd, the halves do not add up, and are refused
        found.append(
            Spread(lengths[axis], counts[axis], kernel[axis], strides[axis], dilations[axis], begin, end, added[axis])
        )
    return tuple(found) if all(spread.is_sound for spread in found) else None
