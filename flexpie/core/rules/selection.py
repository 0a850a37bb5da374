"""Operators that copy a choice of their input's elements: Slice, Split, Gather, Expand, Tile."""

from __future__ import annotations

from flexpie.core.graph import Constant
from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, CopyRule, LocalForm, Regions, has_elements, sole
from flexpie.core.rules.pointwise import broadcast_source, broadcasts


class SliceRule(CopyRule):
    """Slice: every axis from a start in steps of either sign."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where the slices are known and give the output's shape."""
        if bound.input(0).size == 0 or bound.output().size == 0:
            return False
        geometry, shape = self._geometry(bound), bound.input(0).shape
        if geometry is None or len(shape) != len(bound.output().shape):
            return False
        last = [start + (count - 1) * step for (start, step), count in zip(geometry, bound.output().shape, strict=True)]
        return all(0 <= index < length for index, length in zip(last, shape, strict=True))

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """From the first to the last element read, on every axis."""
        intervals = []
        for (start, step), part in zip(self._steps(bound), sole(produced), strict=True):
            ends = (start + part.start * step, start + (part.stop - 1) * step)
            intervals.append(Interval(min(ends), max(ends) + 1))
        return (Region(intervals), *[None] * (len(bound.inputs) - 1))

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Starts and ends at the needed region's own borders."""
        lengths, steps = sole(needed).shape, self._steps(bound)
        axes = self._axes(bound)
        forward = [steps[axis][1] > 0 for axis in axes]
        starts = tuple(0 if ahead else lengths[axis] - 1 for axis, ahead in zip(axes, forward, strict=True))
        ends = tuple(lengths[axis] if ahead else -lengths[axis] - 1 for axis, ahead in zip(axes, forward, strict=True))
        if bound.operator.version < 10:
            return LocalForm({"starts": starts, "ends": ends, "axes": axes})
        constants = (starts, ends, axes, tuple(steps[axis][1] for axis in axes))
        there = {index: values for index, values in enumerate(constants, 1) if index < len(bound.inputs)}
        return LocalForm(constants={index: values for index, values in there.items() if bound.inputs[index]})

    def _steps(self, bound: BoundOperator) -> list[tuple[int, int]]:
        geometry = self._geometry(bound)
        assert geometry is not None, "used without asking supports()"
        return geometry

    def _geometry(self, bound: BoundOperator) -> list[tuple[int, int]] | None:
        """Per axis: index of the first element read, and step; None where they are not known."""
        shape = bound.input(0).shape
        starts = self._parameter(bound, 1, "starts")
        if starts is None or any(spec and bound.constants[i] is None for i, spec in enumerate(bound.inputs) if i > 2):
            return None
        axes, steps = self._axes(bound), self._parameter(bound, 4, "steps") or (1,) * len(starts)
        if len(axes) != len(starts) or len(steps) != len(starts) or 0 in steps:
            return None
        geometry = [(0, 1)] * len(shape)
        for axis, start, step in zip(axes, starts, steps, strict=True):
            length = shape[axis]
            start = start + length if start < 0 else start
            geometry[axis] = (min(max(start, 0), length if step > 0 else length - 1), step)
        return geometry

    def _axes(self, bound: BoundOperator) -> tuple[int, ...]:
        axes = self._parameter(bound, 3, "axes")
        if axes is None:
            axes = tuple(range(len(self._parameter(bound, 1, "starts") or ())))
        return tuple(axis % len(bound.input(0).shape) for axis in axes)

    @staticmethod
    def _parameter(bound: BoundOperator, index: int, attribute: str) -> Constant | None:
        if bound.operator.version < 10:
            return bound.integers(attribute)
        return bound.constants[index] if index < len(bound.constants) else None


class SplitRule(CopyRule):
    """Split: outputs are consecutive intervals of the input along `axis`. An output that nobody wants gets an
    empty region, for it cannot be left away."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with omitted outputs, or where outputs do not fill the input."""
        if not has_elements(bound) or any(spec is None for spec in bound.outputs):
            return False
        axis = self._axis(bound)
        return sum(bound.output(i).shape[axis] for i in range(len(bound.outputs))) == bound.input(0).shape[axis]

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """One interval of the input: its inner outputs whole; on the other axes the bounding box for all."""
        axis, spans = self._axis(bound), self._spans(bound)
        source: Region | None = None
        for region, span in zip(wanted, spans, strict=True):
            if region is not None and not region.is_empty:
                own = Interval(region[axis].start + span.start, region[axis].stop + span.start)
                moved = region.with_axis(axis, own)
                source = moved if source is None else source.hull(moved)
        assert source is not None, "nothing is wanted"
        produced = []
        for span in spans:
            common = source[axis].intersect(span)
            own = Interval(common.start - span.start, common.stop - span.start) if common.length else Interval(0, 0)
            produced.append(source.with_axis(axis, own))
        return tuple(produced)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The interval that the outputs fill; no sizes."""
        axis = self._axis(bound)
        found = None
        for region, span in zip(produced, self._spans(bound), strict=True):
            if region is not None and not region.is_empty:
                own = Interval(region[axis].start + span.start, region[axis].stop + span.start)
                moved = region.with_axis(axis, own)
                found = moved if found is None else found.hull(moved)
        return (found, *[None] * (len(bound.inputs) - 1))

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The sizes that are left."""
        axis = self._axis(bound)
        sizes = tuple(region[axis].length for region in produced if region is not None)
        if bound.operator.version < 13:
            return LocalForm({"split": sizes})
        return LocalForm({"num_outputs": None}, constants={1: sizes})

    @staticmethod
    def _axis(bound: BoundOperator) -> int:
        return bound.integer("axis", 0) % len(bound.input(0).shape)

    def _spans(self, bound: BoundOperator) -> list[Interval]:
        """Per output: its interval of the input."""
        axis, start, spans = self._axis(bound), 0, []
        for index in range(len(bound.outputs)):
            stop = start + bound.output(index).shape[axis]
            spans.append(Interval(start, stop))
            start = stop
        return spans


class GatherRule(CopyRule):
    """Gather: output [..., indices..., ...] with the indices' axes in the place of `axis`."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The indices of the part, and the entries that they can name; all entries where they are not known."""
        axis, rank = self._axis(bound), len(bound.input(1).shape)
        region = sole(produced)
        entries = self._entries(bound, Region(region[axis : axis + rank]))
        data = Region((*region[:axis], entries, *region[axis + rank :]))
        return data, None if self._moved(bound) else Region(region[axis : axis + rank])

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """A known list of indices counts from the first needed entry."""
        if not self._moved(bound):
            return LocalForm()
        axis = self._axis(bound)
        data, part = needed[0], sole(produced)[axis]
        assert data is not None
        indices = self._indices(bound)[part.start : part.stop]
        return LocalForm(constants={1: tuple(index - data[axis].start for index in indices)})

    @staticmethod
    def _axis(bound: BoundOperator) -> int:
        return bound.integer("axis", 0) % len(bound.input(0).shape)

    @staticmethod
    def _moved(bound: BoundOperator) -> bool:
        """Whether the indices are a known list, which the local node replaces."""
        return bound.constants[1] is not None and len(bound.input(1).shape) == 1

    def _indices(self, bound: BoundOperator) -> list[int]:
        """The known indices, counted from the front."""
        length = bound.input(0).shape[self._axis(bound)]
        return [index + length if index < 0 else index for index in bound.constants[1] or ()]

    def _entries(self, bound: BoundOperator, part: Region) -> Interval:
        length = bound.input(0).shape[self._axis(bound)]
        known = bound.constants[1]
        if known is None:
            return Interval(0, length)
        if self._moved(bound):
            indices = self._indices(bound)[part[0].start : part[0].stop]
            return Interval(min(indices), max(indices) + 1)
        # Indices that stay as they are still hit when the entries that they count from stay in place.
        if min(known) >= 0:
            return Interval(0, max(known) + 1)
        return Interval(length + min(known), length) if max(known) < 0 else Interval(0, length)


class ExpandRule(CopyRule):
    """Expand: numpy's broadcasting to a shape."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where there is nothing."""
        shape, output = bound.input(0).shape, bound.output().shape
        return bound.output().size > 0 and bound.input(0).size > 0 and broadcasts(shape, output)

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """Where nothing is repeated."""
        return input_index == 0 and bound.input(0).shape == bound.output().shape

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What is repeated to the region; no shape."""
        return broadcast_source(bound.input(0).shape, bound.output().shape, sole(produced)), None

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The part's shape."""
        return LocalForm(constants={1: sole(produced).shape})


class TileRule(CopyRule):
    """Tile: the whole tensor again and again along every axis."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not the oldest one, which repeats along one axis."""
        return has_elements(bound) and bound.operator.version >= 6

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole repetitions along the repeated axes."""
        intervals = []
        for length, count, part in zip(bound.input(0).shape, bound.output().shape, sole(wanted), strict=True):
            if length != count:
                part = Interval(part.start // length * length, -(-part.stop // length) * length)
            intervals.append(part)
        return (Region(intervals),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The repeated axes whole; no repeats."""
        shape, output = bound.input(0).shape, bound.output().shape
        whole = bound.input(0).whole
        intervals = [
            part if length == count else all_of_it
            for length, count, part, all_of_it in zip(shape, output, sole(produced), whole, strict=True)
        ]
        return Region(intervals), None

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The repetitions that are left."""
        pairs = zip(sole(produced).shape, sole(needed).shape, strict=True)
        return LocalForm(constants={1: tuple(count // length for count, length in pairs)})
