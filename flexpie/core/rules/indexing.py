"""Operators that read or write at places that an input names: along other axes they can be divided."""

from __future__ import annotations

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, CopyRule, Regions, has_elements, sole, whole_inputs


class GatherElementsRule(CopyRule):
    """Output, like the indices, of any shape within the data's; each element comes from its own line along `axis`."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The lines of data; the part of the indices."""
        region = sole(produced)
        axis = _axis(bound, 0)
        return region.with_axis(axis, Interval(0, bound.input(0).shape[axis])), region


class GatherNDRule(CopyRule):
    """Data [batch..., indexed..., rest...] and indices [batch..., any..., number of indexed axes] to
    [batch..., any..., rest...]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where batches have other lengths."""
        batch, data, indices = bound.integer("batch_dims", 0), bound.input(0).shape, bound.input(1).shape
        return (
            has_elements(bound)
            and 0 <= batch < len(indices)
            and data[:batch] == indices[:batch]
            and bound.output().shape == (*indices[:-1], *data[batch + indices[-1] :])
        )

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Whole indexed axes, in the batches and the rest of the part; its indices."""
        region, batch = sole(produced), bound.integer("batch_dims", 0)
        data, indices = bound.input(0).whole, bound.input(1).whole
        outer = len(indices) - 1
        indexed = data[batch : batch + bound.input(1).shape[-1]]
        return Region((*region[:batch], *indexed, *region[outer:])), Region((*region[:outer], indices[-1]))


class ScatterElementsRule(CopyRule):
    """ScatterElements, Scatter: data, in which updates replace elements in their own line along `axis`."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not before the operator had a line to write to."""
        return has_elements(bound) and bound.input(0).shape == bound.output().shape

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole lines; whole axes along which there are fewer updates than elements."""
        region, axis = sole(wanted), _axis(bound, 0)
        pairs = zip(bound.input(0).shape, bound.input(1).shape, region, strict=True)
        return (
            Region(
                Interval(0, length) if index == axis or updates != length else part
                for index, (length, updates, part) in enumerate(pairs)
            ),
        )

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of data; the indices and updates of its lines."""
        region, axis = sole(produced), _axis(bound, 0)
        pairs = zip(bound.input(0).shape, bound.input(1).shape, region, strict=True)
        updates = Region(
            Interval(0, count) if index == axis or count != length else part
            for index, (length, count, part) in enumerate(pairs)
        )
        return region, updates, updates


class ScatterNDRule(CopyRule):
    """Data [indexed..., rest...], indices [any..., number of indexed axes] and updates [any..., rest...]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only where updates have that shape."""
        data, indices, updates = (bound.input(index).shape for index in range(3))
        return has_elements(bound) and updates == (*indices[:-1], *data[indices[-1] :])

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole indexed axes."""
        indexed = bound.input(1).shape[-1]
        return (Region((*bound.output().whole[:indexed], *sole(wanted)[indexed:])),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of data, all indices, and the updates' rest of the part."""
        region, indices = sole(produced), bound.input(1).whole
        rest = region[bound.input(1).shape[-1] :]
        return region, indices, Region((*indices[:-1], *rest))


class OneHotRule(CopyRule):
    """Indices [...] to [..., depth, ...] with the new axis at `axis`."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where there is nothing."""
        return has_elements(bound) and len(bound.output().shape) == len(bound.input(0).shape) + 1

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The new axis whole."""
        axis = self._axis(bound)
        return (sole(wanted).with_axis(axis, bound.output().whole[axis]),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The indices of the part; depth and values."""
        region, axis = sole(produced), self._axis(bound)
        return (Region((*region[:axis], *region[axis + 1 :])), *whole_inputs(bound)[1:])

    @staticmethod
    def _axis(bound: BoundOperator) -> int:
        return bound.integer("axis", -1) % len(bound.output().shape)


def _axis(bound: BoundOperator, default: int) -> int:
    return bound.integer("axis", default) % len(bound.input(0).shape)
