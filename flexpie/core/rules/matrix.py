"""Matrix products: an output element needs one row and one column; the summed axis stays whole."""

from __future__ import annotations

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole
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
        rows, columns = region
        inner = Interval(0, self._inner(bound))
        a = (inner, rows) if bound.integer("transA", 0) else (rows, inner)
        b = (columns, inner) if bound.integer("transB", 0) else (inner, columns)
        regions: list[Region | None] = [Region(a), Region(b)]
        if len(bound.inputs) > 2:
            c = _optional(bound, 2)
            regions.append(None if c is None else broadcast_source(c, bound.output().shape, region))
        return tuple(regions)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per output element and summed index."""
        return 2 * self._inner(bound) * sole(produced).size

    @staticmethod
    def _inner(bound: BoundOperator) -> int:
        return bound.input(0).shape[0 if bound.integer("transA", 0) else 1]


class MatMulRule(Rule):
    """A [..., M, K] and B [..., K, N], their leading axes broadcast; a vector lacks M or N."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Rows of A and columns of B, in the batches that are repeated to the region."""
        a, b = bound.input(0).shape, bound.input(1).shape
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
        return left, right

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per output element and summed index."""
        return 2 * bound.input(0).shape[-1] * sole(produced).size


def _optional(bound: BoundOperator, index: int) -> tuple[int, ...] | None:
    spec = bound.inputs[index] if len(bound.inputs) > index else None
    return None if spec is None else spec.shape
