"""Where the tensors of one shape can be, as numbers: the arithmetic of exchanges on whole arrays."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.region import Region
from flexpie.core.tensor import Shape
from flexpie.planner.boxes import (
    Boxes,
    Indices,
    Mask,
    axis_lengths,
    boxes_of,
    contains,
    hull,
    present,
    regions_of,
    row_keys,
    sizes,
    unique,
    whole_box,
)
from flexpie.planner.cost import Array, CostModel

Layout = tuple[Region | None, ...]
"""The region of a tensor at each of n devices and, last, at the master; None where there is none of it."""

NOTHING = -1
"""Stands for a layout (or holding) that is absent."""
_BLOCK = 1 << 17
"""Elements of the largest array of bytes that is made at once: it stays in a processor's cache."""
_LEAST_BLOCK = 128
"""Pairs of which the bytes are made at once, however many ends there are."""
_EXACT = 1 << 24
"""Whole numbers below it are exact in float32, which is twice as fast, or more."""
_Intervals = list[tuple[Array, Array]]
"""Per axis: where regions start and stop, [ends, pairs]."""


@dataclass(frozen=True, slots=True)
class HoldingNumbers:
    """Who sends a tensor, and what everybody has of it."""

    sources: int
    """Layout whose regions are disjoint and cover the tensor."""
    held: tuple[int, ...]
    """Layouts; an end holds the union of its regions in them."""


@dataclass
class TensorKind:
    """All layouts and holdings of the tensors with one shape and element sizes, each with a number."""

    shape: Shape
    itemsize: int
    ends: int
    """Length of a layout: devices and master."""
    sent_itemsize: int
    """Bytes of an element in messages between devices; in those from and to the master it is `itemsize`."""
    holdings: list[HoldingNumbers] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._store = [np.zeros((16, self.ends, len(axis_lengths(self.shape)), 2), dtype=np.int64)]
        small = math.prod(axis_lengths(self.shape)) < _EXACT
        self._exact: type[np.float32 | np.float64] = np.float32 if small else np.float64
        self._columns: list[Array] = [np.zeros((self.ends, len(axis_lengths(self.shape)), 2, 0), self._exact)]
        """The same numbers, [ends, axes, 2, layouts]."""
        self._layout_index: dict[bytes, int] = {}
        self._holding_index: dict[HoldingNumbers, int] = {}
        self._hulls: dict[int, int] = {}
        self._sources: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._everywhere: Mask = np.zeros(0, dtype=np.bool_)
        self._serves: dict[tuple[bytes, bool], Mask] = {}
        self._seconds: Array = np.full((0, 0), np.nan)

    # -------------------------------------------------------------------------------------------- layouts

    @property
    def _boxes(self) -> Boxes:
        """The regions of all layouts, and room for more; shared with kinds of `without_seconds`."""
        return self._store[0]

    @property
    def nbytes_of_all(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.itemsize

    def __len__(self) -> int:
        """How many layouts there are."""
        return len(self._layout_index)

    def layout(self, regions: Layout) -> int:
        """The number of a layout."""
        return int(self.layouts(boxes_of(regions, len(self.shape))[None])[0])

    def layouts(self, boxes: Boxes) -> Indices:
        """The numbers of layouts, which are given as [L, ends, axes, (start, stop)]."""
        index, before = self._layout_index, len(self)
        numbers = np.array([index.setdefault(key, len(index)) for key in row_keys(boxes)], dtype=np.int64)
        if len(index) > before:
            while len(index) > len(self._boxes):
                self._store[0] = np.concatenate((self._boxes, np.zeros_like(self._boxes)))
            fresh = numbers >= before
            self._boxes[numbers[fresh]] = boxes[fresh]
        return numbers

    def boxes(self, layouts: Indices) -> Boxes:
        """The regions of layouts, [L, ends, axes, (start, stop)]; all absent for `NOTHING`."""
        found: Boxes = self._boxes[layouts]
        found[layouts == NOTHING] = NOTHING
        return found

    def regions(self, layout: int) -> Layout:
        """The regions of one layout."""
        return regions_of(self._boxes[layout], len(self.shape))

    def whole_on(self, ends: Sequence[frozenset[int]]) -> Indices:
        """The layouts in which each of some ends has all of the tensor, for several sets of ends."""
        boxes = np.full((len(ends), *self._boxes.shape[1:]), NOTHING, dtype=np.int64)
        for at, chosen in enumerate(ends):
            boxes[at, sorted(chosen)] = whole_box(self.shape)
        return self.layouts(boxes)

    def hulls(self, first: Indices, second: Indices) -> Indices:
        """The layouts of both, end by end the bounding boxes; `NOTHING` adds nothing."""
        result = np.where(first == NOTHING, second, first)
        unlike = np.nonzero((first != second) & (first != NOTHING) & (second != NOTHING))[0]
        if len(unlike):
            keys, where = unique((first[unlike] << 32) | second[unlike])
            missing = np.array([key for key in keys.tolist() if key not in self._hulls], dtype=np.int64)
            if len(missing):
                joined = self.layouts(hull(self._boxes[missing >> 32], self._boxes[missing & 0xFFFFFFFF]))
                self._hulls.update(zip(missing.tolist(), joined.tolist(), strict=True))
            result[unlike] = np.array([self._hulls[key] for key in keys.tolist()], dtype=np.int64)[where]
        return result

    # ------------------------------------------------------------------------------------------- holdings

    def holding(self, sources: int, held: Sequence[int]) -> int:
        """The number of a holding."""
        numbers = HoldingNumbers(sources, tuple(held))
        number = self._holding_index.setdefault(numbers, len(self.holdings))
        if number == len(self.holdings):
            self.holdings.append(numbers)
        return number

    def held_by_all(self) -> int:
        """The holding of a tensor that every end has: its exchanges are free."""
        first, everywhere = self.whole_on((frozenset({0}), frozenset(range(self.ends)))).tolist()
        return self.holding(first, (everywhere,))

    def produced(self, owned: Indices, computed: Indices) -> Indices:
        """The holdings of a tensor of which the devices computed one layout and own another, pair by pair."""
        sources = self.sources(owned)
        return np.array([self.holding(a, (b,)) for a, b in zip(sources.tolist(), computed.tolist(), strict=True)],
                        dtype=np.int64)  # fmt: skip

    def sources(self, owned: Indices) -> Indices:
        """The layouts of what each device sends of a tensor: where it is replicated, the first owner sends all."""
        return np.array([self._source(number) for number in owned.tolist()], dtype=np.int64)

    def _source(self, owned: int) -> int:
        if owned not in self._sources:
            boxes = self._boxes[owned]
            owners = np.nonzero(present(boxes))[0]
            source = owned
            if len(owners) > 1 and (boxes[owners[0]] == boxes[owners[1]]).all():
                alone = np.full_like(boxes, NOTHING)
                alone[owners[0]] = boxes[owners[0]]
                source = int(self.layouts(alone[None])[0])
            self._sources[owned] = source
        return self._sources[owned]

    def received(self, holdings: Indices, needed: Indices) -> Indices:
        """The holdings after an exchange that brought every end what it needed, pair by pair."""
        keys, where = unique((holdings << 32) | needed)
        known = self._received
        missing = [key for key in keys.tolist() if key not in known]
        if missing:
            self._receive(missing)
        result: Indices = np.array([known[key] for key in keys.tolist()], dtype=np.int64)[where]
        return result

    def receive(self, holding: int, needed: int) -> int:
        """The holding after one exchange."""
        key = (holding << 32) | needed
        if key not in self._received:
            self._receive([key])
        return self._received[key]

    def _receive(self, keys: Sequence[int]) -> None:
        """Work out the holdings after some exchanges; keys hold a holding and a need."""
        before = [self.holdings[key >> 32] for key in keys]
        held = np.array([layout for item in before for layout in item.held], dtype=np.int64)
        needed = np.repeat([key & 0xFFFFFFFF for key in keys], [len(item.held) for item in before])
        enough = self._cover(held, needed).tolist()
        superseded = self._cover(needed, held).tolist()
        at = 0
        for key, item in zip(keys, before, strict=True):
            end = at + len(item.held)
            if any(enough[at:end]):
                self._received[key] = key >> 32
            else:
                kept = [layout for layout, old in zip(item.held, superseded[at:end], strict=True) if not old]
                self._received[key] = self.holding(item.sources, sorted((*kept, key & 0xFFFFFFFF)))
            at = end

    def _cover(self, layouts: Indices, others: Indices) -> Mask:
        """Whether every end has in one layout all that it has in another, pair by pair; the arrays broadcast."""
        return np.asarray(contains(self._boxes[layouts], self._boxes[others]).all(axis=-1), dtype=np.bool_)

    def serves(self, holdings: Indices, asked_by_master: bool) -> Mask:
        """Whether one holding is as good as another whatever comes, [len(holdings), len(holdings)].

        It is where the same ends send, and every end has at least as much; or where every device has all of the
        tensor and the master will not ask for it, so that nothing of it is sent any more.
        """
        key = (holdings.tobytes(), asked_by_master)
        if key not in self._serves:
            self._serves[key] = self._work_out_serves(holdings, asked_by_master)
        return self._serves[key]

    def _work_out_serves(self, holdings: Indices, asked_by_master: bool) -> Mask:
        numbers = [self.holdings[number] for number in holdings.tolist()]
        sources = np.array([item.sources for item in numbers], dtype=np.int64)
        layouts, _ = unique(np.array([layout for item in numbers for layout in item.held], dtype=np.int64))
        part_of = np.zeros((len(numbers), len(layouts)), dtype=np.float64)
        for at, item in enumerate(numbers):
            part_of[at, np.searchsorted(layouts, item.held)] = 1.0
        covered = part_of @ self._cover(layouts[:, None], layouts) > 0
        missing = ~covered @ part_of.T
        better: Mask = np.asarray((missing == 0) & (sources[:, None] == sources), dtype=np.bool_)
        if not asked_by_master:
            better = np.logical_or(better, self.everywhere(holdings)[:, None])
        return better

    def everywhere(self, holdings: Indices) -> Mask:
        """Whether every device has all of the tensor, [len(holdings)]."""
        known = len(self._everywhere)
        if known < len(self.holdings):
            fresh = self.holdings[known:]
            held = self._boxes[[layout for item in fresh for layout in item.held], :-1]
            whole = contains(held, whole_box(self.shape)).all(axis=-1)
            begins = np.cumsum([0, *(len(item.held) for item in fresh[:-1])])
            self._everywhere = np.concatenate((self._everywhere, np.logical_or.reduceat(whole, begins)))
        found: Mask = self._everywhere[holdings]
        return found

    def bytes_at(self, layouts: Indices) -> Array:
        """Bytes of each end's region in each layout, [len(layouts), ends]."""
        return sizes(self._boxes[layouts]).astype(np.float64) * self.itemsize

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
            asked = holdings[rows], needs[columns]
            sources = np.array([self.holdings[number].sources for number in holdings.tolist()], dtype=np.int64)
            # Those that few ends take part in stand together, and cost less.
            order = np.argsort(np.maximum(self._width(sources)[rows], self._width(needs)[columns]), kind="stable")
            step = max(_LEAST_BLOCK, _BLOCK // self.ends**2)
            for start in range(0, len(order), step):
                some = asked[0][order[start : start + step]], asked[1][order[start : start + step]]
                self._seconds[some] = model.exchange_seconds(self.nbytes(*some))
            block = self._seconds[np.ix_(holdings, needs)]
        return block

    def _width(self, layouts: Indices) -> Indices:
        """How many ends have something in each layout, [layouts]."""
        return np.asarray(present(self._boxes[layouts]).sum(axis=-1), dtype=np.int64)

    def _grow(self) -> None:
        rows, columns = self._seconds.shape
        if rows < len(self.holdings) or columns < len(self):
            grown = np.full((len(self.holdings) + rows // 2, len(self) + columns // 2), np.nan)
            grown[:rows, :columns] = self._seconds
            self._seconds = grown

    def nbytes(self, holdings: Indices, needs: Indices) -> Array:
        """Bytes that travel for each pair of a holding and a need, [len(needs), source, destination].

        Inside, the pairs are the last axis: numpy is slow on short ones.
        """
        chosen, pairs = unique(holdings)
        numbers = [self.holdings[number] for number in chosen.tolist()]
        sources = np.array([item.sources for item in numbers], dtype=np.int64)
        held_somewhere = np.array([x for item in numbers for x in item.held], dtype=np.int64)
        moved, _ = unique(np.concatenate((sources, needs)))
        axes, volume = self._partial_axes(unique(np.concatenate((moved, held_somewhere)))[0])
        ends = np.nonzero(present(self._boxes[moved]).any(axis=0))[0]
        senders, wanted = self._intervals(sources[pairs], axes, ends), self._intervals(needs, axes, ends)
        total = _overlap(senders, wanted)
        # What the destination holds is counted off: the union of its boxes, by inclusion and exclusion.
        counts = np.array([0 if item.held == (item.sources,) else len(item.held) for item in numbers])
        for held in sorted(set(counts.tolist()) - {0}):  # where 0, all is disjoint from what the others send
            rows = np.nonzero(counts[pairs] == held)[0]
            layouts = np.array(
                [item.held if n == held else (0,) * held for item, n in zip(numbers, counts, strict=True)]
            )
            some, asked = _of_pairs(senders, rows), _of_pairs(wanted, rows)
            there = [self._intervals(layouts[pairs[rows], at], axes, ends) for at in range(held)]
            for count in range(1, held + 1):
                for subset in itertools.combinations(there, count):
                    common = functools.reduce(_intersect, subset, asked)
                    total[..., rows] -= (-1) ** (count + 1) * _overlap(some, common)
        total = total.astype(np.float64) * (self.itemsize * volume)
        if self.sent_itemsize != self.itemsize:
            devices = np.nonzero(ends < self.ends - 1)[0]
            total[np.ix_(devices, devices)] *= self.sent_itemsize / self.itemsize
        diagonal = np.arange(len(ends))
        total[diagonal, diagonal] = 0.0
        if len(ends) < self.ends:
            few, total = total, np.zeros((self.ends, self.ends, len(needs)))
            total[np.ix_(ends, ends)] = few
        return np.moveaxis(total, -1, 0)

    def _intervals(self, layouts: Indices, axes: Indices, ends: Indices) -> _Intervals:
        """Where the regions of layouts start and stop on some axes, at some ends."""
        known = self._columns[0]
        if known.shape[-1] < len(self):
            known = np.ascontiguousarray(np.moveaxis(self._boxes[: len(self)], 0, -1).astype(self._exact))
            self._columns[0] = known
        if len(ends) < self.ends:
            known = known[ends]
        return [(known[:, axis, 0].take(layouts, axis=-1), known[:, axis, 1].take(layouts, axis=-1)) for axis in axes]

    def _partial_axes(self, layouts: Indices) -> tuple[Indices, float]:
        """The axes on which some region of the layouts is not whole (at least one), and how many elements of the
        tensor there are per element of these axes."""
        boxes = self._boxes[layouts]
        whole = whole_box(self.shape)
        partial = ((boxes != whole).any(axis=-1) & present(boxes)[..., None]).any(axis=(0, 1))
        axes = np.nonzero(partial)[0] if partial.any() else np.arange(1)
        return axes, float(np.prod(np.delete(whole[:, 1], axes)))


def _of_pairs(intervals: _Intervals, which: Indices) -> _Intervals:
    return [(lower[:, which], upper[:, which]) for lower, upper in intervals]


def _overlap(first: _Intervals, second: _Intervals) -> Array:
    """Elements that each end of the one and each of the other have in common, [ends, ends, pairs]."""
    volume: Array | None = None
    for (lower, upper), (other_lower, other_upper) in zip(first, second, strict=True):
        length = np.minimum(upper[:, None], other_upper)
        length -= np.maximum(lower[:, None], other_lower)
        np.maximum(length, 0.0, out=length)
        volume = length if volume is None else np.multiply(volume, length, out=volume)
    assert volume is not None
    return volume


def _intersect(first: _Intervals, second: _Intervals) -> _Intervals:
    """What is common to both, end by end."""
    found = []
    for (lower, upper), (other_lower, other_upper) in zip(first, second, strict=True):
        start = np.maximum(lower, other_lower)
        found.append((start, np.maximum(start, np.minimum(upper, other_upper))))
    return found
