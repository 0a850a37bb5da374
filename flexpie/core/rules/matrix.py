"""Matrix products: an output element needs one row and one column; the summed axis stays whole."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole, whole_inputs
from flexpie.core.rules.pointwise import broadcast_source, broadcasts


class GemmRule(Rule):
    """A [M, K] or transposed, B [K, N] or transposed, C broadcast to the output [M, N]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with the `broadcast` attribute that came before numpy's broadcasting."""
        if not has_elements(bound) or "broadcast" in bound.operator.attributes:
            return False
        output, c = bound.output().shape, _optional(bound, 2)
        return len(output) == 2 and (c is None or broadcasts(c, output))

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Rows of A, columns of B, and what C repeats to the region."""
        region = sole(produced)
        regions: list[Region | None] = [*self._factors(bound, region)]
        if len(bound.inputs) > 2:
            c = _optional(bound, 2)
            regions.append(None if c is None else broadcast_source(c, bound.output().shape, region))
        return tuple(regions)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per output element and summed index."""
        return 2 * self._inner(bound) * sole(produced).size

    def _factors(self, bound: BoundOperator, region: Region) -> tuple[Region, Region]:
        """Rows of A and columns of B."""
        rows, columns = region
        inner = Interval(0, self._inner(bound))
        a = (inner, rows) if bound.integer("transA", 0) else (rows, inner)
        b = (columns, inner) if bound.integer("transB", 0) else (inner, columns)
        return Region(a), Region(b)

    @staticmethod
    def _inner(bound: BoundOperator) -> int:
        return bound.input(0).shape[0 if bound.integer("transA", 0) else 1]


@dataclass(frozen=True)
class MatMulRule(Rule):
    """MatMul, MatMulInteger, QLinearMatMul: A [..., M, K] and B [..., K, N], their leading axes broadcast; a vector
    lacks M or N. Quantisation parameters are one for all, one per row of A, or one per column of B."""

    b: int = 1
    """Index of B among the inputs; A is the first."""
    of_rows: tuple[int, ...] = ()
    """Inputs that hold quantisation parameters of A: of any shape that broadcasts to it, or [M]."""
    of_columns: tuple[int, ...] = ()
    """Inputs that hold quantisation parameters of B: of any shape that broadcasts to it."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where parameters have other shapes."""
        if not has_elements(bound):
            return False
        a, b = bound.input(0).shape, bound.input(self.b).shape
        rows = [_optional(bound, index) for index in self.of_rows]
        columns = [_optional(bound, index) for index in self.of_columns]
        return all(
            shape is None or _is_one(shape) or (len(a) > 1 and (shape == a[-2:-1] or _spans_rows(shape, a)))
            for shape in rows
        ) and all(shape is None or _is_one(shape) or broadcasts(shape, b) for shape in columns)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Rows of A and columns of B, in the batches that are repeated to the region, and their parameters."""
        a, b = bound.input(0).shape, bound.input(self.b).shape
        region, output = list(sole(produced)), list(bound.output().shape)
        columns = region.pop() if len(b) > 1 else None
        rows = region.pop() if len(a) > 1 else None
        batches, batch_region = output[: len(region)], Region(region)
        inner = Interval(0, a[-1])
        left, right = Region((inner,)), Region((inner,))
        if rows is not None:
            left = Region((*broadcast_source(a[:-2], batches, batch_region), rows, inner))
        if columns is not None:
            right = Region((*broadcast_source(b[:-2], batches, batch_region), inner, columns))
        regions = whole_inputs(bound)
        regions[0], regions[self.b] = left, right
        for index in self.of_rows:
            shape = _optional(bound, index)
            if shape is not None and not _is_one(shape):
                regions[index] = Region(left[-2:-1]) if len(shape) == 1 else broadcast_source(shape, a, left)
        for index in self.of_columns:
            shape = _optional(bound, index)
            if shape is not None and not _is_one(shape):
                regions[index] = broadcast_source(shape, b, right)
        return tuple(regions)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per output element and summed index."""
        return 2 * bound.input(0).shape[-1] * sole(produced).size


def _is_one(shape: tuple[int, ...]) -> bool:
    return all(length == 1 for length in shape)


def _spans_rows(shape: tuple[int, ...], a: tuple[int, ...]) -> bool:
    return len(shape) == len(a) and shape[-1] == 1 and broadcasts(shape, a)


def _optional(bound: BoundOperator, index: int) -> tuple[int, ...] | None:
    spec = bound.inputs[index] if len(bound.inputs) > index else None
    return None if spec is None else spec.shape
