"""Pad: a window of one element on every axis."""

from __future__ import annotations

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, CopyRule, LocalForm, Regions, sole
from flexpie.core.rules.windows import Window, local_pads


class PadRule(CopyRule):
    """Pad, or crop where pads are negative."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only with known pads, and where something of the input is left."""
        if bound.input(0).size == 0 or bound.output().size == 0 or bound.operator.version < 2:
            return False
        geometry = self._geometry(bound)
        return geometry is not None and all(
            window.count == window.length + begin + end
            and window.span(Interval(0, window.count)).intersect(Interval(0, window.length)).length > 0
            for window, (begin, end) in geometry
        )

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Some element of the input must be there; axes padded with far elements stay whole."""
        intervals = []
        for (window, pads), part in zip(self._checked(bound), sole(wanted), strict=True):
            intervals.append(window.round(part) if self._is_near(bound, pads) else Interval(0, window.count))
        return (Region(intervals),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What is there without the padding, and the value to pad with."""
        intervals = []
        for (window, pads), part in zip(self._checked(bound), sole(produced), strict=True):
            intervals.append(window.inputs(part) if self._is_near(bound, pads) else Interval(0, window.length))
        values = None if len(bound.inputs) < 3 or bound.inputs[2] is None else bound.inputs[2].whole
        axes = None if len(bound.inputs) < 4 or bound.inputs[3] is None else bound.inputs[3].whole
        return (Region(intervals), None, values, axes)[: len(bound.inputs)]

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The pads that are left, for the axes that the node names."""
        geometry, region = self._checked(bound), sole(produced)
        rank = len(region)
        pads = list(local_pads([window for window, _ in geometry], region))
        for axis, (_, own) in enumerate(geometry):
            if not self._is_near(bound, own):
                pads[axis], pads[axis + rank] = own
        if bound.operator.version < 11:
            return LocalForm({"pads": tuple(pads)})
        axes = self._axes(bound)
        return LocalForm(constants={1: tuple(pads[axis + half] for half in (0, rank) for axis in axes)})

    @staticmethod
    def _is_near(bound: BoundOperator, pads: tuple[int, int]) -> bool:
        """Whether padding of an axis needs at most the element beside it."""
        return bound.text("mode", "constant") in {"constant", "edge"} or pads == (0, 0)

    @staticmethod
    def _axes(bound: BoundOperator) -> tuple[int, ...]:
        rank = len(bound.input(0).shape)
        axes = bound.constants[3] if len(bound.constants) > 3 and bound.inputs[3] is not None else None
        return tuple(range(rank)) if axes is None else tuple(axis % rank for axis in axes)

    def _checked(self, bound: BoundOperator) -> list[tuple[Window, tuple[int, int]]]:
        geometry = self._geometry(bound)
        assert geometry is not None, "used without asking supports()"
        return geometry

    def _geometry(self, bound: BoundOperator) -> list[tuple[Window, tuple[int, int]]] | None:
        """Per axis: the window, and the pads as the node has them, which may be negative."""
        shape, output = bound.input(0).shape, bound.output().shape
        pads = bound.integers("pads") if bound.operator.version < 11 else bound.constants[1]
        if len(bound.inputs) > 3 and bound.inputs[3] is not None and bound.constants[3] is None:
            return None
        axes = self._axes(bound)
        if pads is None or len(pads) != 2 * len(axes) or len(output) != len(shape):
            return None
        own = [(0, 0)] * len(shape)
        for index, axis in enumerate(axes):
            own[axis] = (pads[index], pads[index + len(axes)])
        return [
            (Window(length, count, 1, 1, 1, begin, max(0, end)), (begin, end))
            for length, count, (begin, end) in zip(shape, output, own, strict=True)
        ]
