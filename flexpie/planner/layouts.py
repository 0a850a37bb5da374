"""Where the tensors of one shape can be, as numbers: the arithmetic of exchanges on whole arrays."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flexpie.core.region import Region
from flexpie.core.tensor import Shape
from flexpie.planner.cost import Array, CostModel

Layout = tuple[Region | None, ...]
"""The region of a tensor at each of n devices and, last, at the master; None where there is none of it."""
Indices = npt.NDArray[np.int64]

NOTHING = -1
"""Stands for a layout (or holding) that is absent."""
_BLOCK = 1 << 21
"""Elements of the largest array of bytes that is made at once."""


@dataclass(frozen=True, slots=True)
class HoldingNumbers:
    """Who sends a tensor, and what everybody has of it."""

    sources: int
    """Layout whose regions are disjoint and cover the tensor."""
    held: tuple[int, ...]
    """Layouts; an end holds the union of its regions in them."""


@dataclass
class TensorKind:
    """All layouts and holdings of the tensors with one shape and element size, each with a number."""

    shape: Shape
    itemsize: int
    ends: int
    """Length of a layout: devices and master."""
    layouts: list[Layout] = field(default_factory=list)
    holdings: list[HoldingNumbers] = field(default_factory=list)
    _layout_index: dict[Layout, int] = field(default_factory=dict)
    _holding_index: dict[HoldingNumbers, int] = field(default_factory=dict)
    _hulls: dict[tuple[int, int], int] = field(default_factory=dict)
    _received: dict[tuple[int, int], int] = field(default_factory=dict)
    _seconds: Array = field(default_factory=lambda: np.full((0, 0), np.nan))
    _bounds: dict[int, Array] = field(default_factory=dict)

    def bounds_of(self, layout: int) -> Array:
        """Bounds of a layout's regions, [ends, axes, (start, stop)]; NaN where there is none."""
        if layout not in self._bounds:
            absent, scalar = [(np.nan, np.nan)] * len(self.axis_lengths), [(0, 1)]
            rows = [absent if region is None else region or scalar for region in self.layouts[layout]]
            self._bounds[layout] = np.array(rows, dtype=np.float64)
        return self._bounds[layout]

    @property
    def axis_lengths(self) -> Shape:
        """The shape, but that a scalar has one axis of length 1."""
        return self.shape or (1,)

    def layout(self, regions: Layout) -> int:
        """The number of a layout."""
        number = self._layout_index.setdefault(regions, len(self.layouts))
        if number == len(self.layouts):
            self.layouts.append(regions)
        return number

    def hull(self, first: int, second: int) -> int:
        """The layout of both, end by end the bounding box; `NOTHING` adds nothing."""
        if first == second or second == NOTHING:
            return first
        if first == NOTHING:
            return second
        key = (first, second)
        if key not in self._hulls:
            pairs = zip(self.layouts[first], self.layouts[second], strict=True)
            self._hulls[key] = self.layout(tuple(b if a is None else a if b is None else a.hull(b) for a, b in pairs))
        return self._hulls[key]

    def holding(self, sources: int, held: Sequence[int]) -> int:
        """The number of a holding."""
        numbers = HoldingNumbers(sources, tuple(held))
        number = self._holding_index.setdefault(numbers, len(self.holdings))
        if number == len(self.holdings):
            self.holdings.append(numbers)
        return number

    def received(self, holding: int, needed: int) -> int:
        """The holding after an exchange that brought every end what it needed."""
        key = (holding, needed)
        if key not in self._received:
            before = self.holdings[holding]
            if any(self._covers(layout, needed) for layout in before.held):
                after = before.held
            else:
                kept = [layout for layout in before.held if not self._covers(needed, layout)]
                after = tuple(sorted((*kept, needed)))
            self._received[key] = self.holding(before.sources, after)
        return self._received[key]

    def _covers(self, layout: int, other: int) -> bool:
        """Whether every end has in one layout all that it has in the other."""
        pairs = zip(self.layouts[layout], self.layouts[other], strict=True)
        return all(b is None or (a is not None and a.contains(b)) for a, b in pairs)

    def bytes_at(self, layouts: Indices) -> Array:
        """Bytes of each end's region in each layout, [len(layouts), ends]."""
        unique, where = np.unique(layouts, return_inverse=True)
        sizes = [[0 if region is None else region.size for region in self.layouts[number]] for number in unique]
        found: Array = np.array(sizes, dtype=np.float64).reshape(-1, self.ends)[where] * self.itemsize
        return found

    # ------------------------------------------------------------------------------------------ exchanges

    def without_seconds(self) -> TensorKind:
        """The same layouts and holdings, also of those to come, for another cost model."""
        other = copy.copy(self)
        other._seconds = np.full((0, 0), np.nan)
        return other

    def exchange_seconds(self, model: CostModel, holdings: Indices, needs: Indices) -> Array:
        """Seconds of exchanges of one such tensor alone; shape [len(holdings), len(needs)]. Remembered."""
        self._grow()
        block = self._seconds[np.ix_(holdings, needs)]
        missing = np.isnan(block)
        if missing.any():
            rows, columns = np.nonzero(missing)
            step = max(1, _BLOCK // self.ends**2)
            for start in range(0, len(rows), step):
                some = holdings[rows[start : start + step]], needs[columns[start : start + step]]
                self._seconds[some] = model.exchange_seconds(self.nbytes(*some))
            block = self._seconds[np.ix_(holdings, needs)]
        return block

    def _grow(self) -> None:
        rows, columns = self._seconds.shape
        if rows < len(self.holdings) or columns < len(self.layouts):
            grown = np.full((len(self.holdings) + rows // 2, len(self.layouts) + columns // 2), np.nan)
            grown[:rows, :columns] = self._seconds
            self._seconds = grown

    def nbytes(self, holdings: Indices, needs: Indices) -> Array:
        """Bytes that travel for each pair of a holding and a need, [len(needs), source, destination]."""
        chosen, pairs = np.unique(holdings, return_inverse=True)
        numbers = [self.holdings[number] for number in chosen]
        sources = np.array([item.sources for item in numbers], dtype=np.int64)[pairs]
        boxes = _Boxes(self, np.concatenate((sources, needs, [x for item in numbers for x in item.held])))
        senders, wanted = boxes.bounds(sources)[:, :, None], boxes.bounds(needs)
        total = _overlap(senders, wanted[:, None])
        # What the destination holds is counted off: the union of its boxes, by inclusion and exclusion.
        for at, item in enumerate(numbers):
            rows = np.nonzero(pairs == at)[0]
            if item.held == (item.sources,):
                continue  # disjoint from what the others send
            for count in range(1, len(item.held) + 1):
                for subset in itertools.combinations(item.held, count):
                    common = wanted[rows]
                    for layout in subset:
                        common = _intersect(common, boxes.bounds(np.array([layout])))
                    total[rows] -= (-1) ** (count + 1) * _overlap(senders[rows], common[:, None])
        total *= self.itemsize * boxes.volume_per_element
        ends = np.arange(total.shape[-1])
        total[:, ends, ends] = 0.0
        return total


class _Boxes:
    """Bounds of layouts on those axes on which some of their regions is not whole."""

    def __init__(self, kind: TensorKind, layouts: Indices) -> None:
        self._numbers = np.unique(layouts)
        bounds = np.stack([kind.bounds_of(int(number)) for number in self._numbers])
        lengths = np.array(kind.axis_lengths, dtype=np.float64)
        present = ~np.isnan(bounds).any(axis=(2, 3))
        partial = (bounds[present] != np.stack((np.zeros_like(lengths), lengths), axis=-1)).any(axis=(0, 2))
        axes = np.nonzero(partial)[0] if partial.any() else np.arange(1)
        self.volume_per_element = float(np.prod(np.delete(lengths, axes)))
        """Elements of the tensor per element of the boxes' axes."""
        self._bounds = np.nan_to_num(bounds[:, :, axes])

    def bounds(self, layouts: Indices) -> Array:
        """Of each layout, [len(layouts), ends, axes, (start, stop)]."""
        found: Array = self._bounds[np.searchsorted(self._numbers, layouts)]
        return found


def _overlap(first: Array, second: Array) -> Array:
    """Elements that boxes have in common; the arrays broadcast but for their last two axes (axis, bound)."""
    volume: Array | None = None
    for axis in range(first.shape[-2]):
        length = np.minimum(first[..., axis, 1], second[..., axis, 1])
        length -= np.maximum(first[..., axis, 0], second[..., axis, 0])
        np.maximum(length, 0.0, out=length)
        volume = length if volume is None else np.multiply(volume, length, out=volume)
    assert volume is not None
    return volume


def _intersect(first: Array, second: Array) -> Array:
    lower = np.maximum(first[..., 0], second[..., 0])
    upper = np.maximum(lower, np.minimum(first[..., 1], second[..., 1]))
    return np.stack((lower, upper), axis=-1)
