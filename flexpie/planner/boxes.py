"""Regions of one tensor as an array of integers: the same arithmetic as `flexpie.core.region`, on many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flexpie.core.region import Region
from flexpie.core.tensor import Shape

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Boxes = Indices
"""Shape [..., axes, (start, stop)]; a scalar has one axis of length 1, and where there is no region all is -1."""

ABSENT = -1


def axis_lengths(shape: Shape) -> Shape:
    """The shape, but that a scalar has one axis of length 1."""
    return shape or (1,)


def whole_box(shape: Shape) -> Boxes:
    """The region that covers a tensor, [axes, 2]."""
    return np.array([(0, length) for length in axis_lengths(shape)], dtype=np.int64)


def boxes_of(regions: Sequence[Region | None], rank: int) -> Boxes:
    """The regions of a tensor with `rank` axes, [regions, axes, 2]."""
    absent, scalar = [(ABSENT, ABSENT)] * max(1, rank), [(0, 1)]
    rows = [absent if region is None else region or scalar for region in regions]
    return np.array(rows, dtype=np.int64).reshape(len(rows), max(1, rank), 2)


def regions_of(boxes: Boxes, rank: int) -> tuple[Region | None, ...]:
    """What `boxes_of` was made of."""
    rows = boxes.reshape(-1, boxes.shape[-2], 2).tolist()
    return tuple(
        None if row[0][0] == ABSENT else Region.of(*((start, stop) for start, stop in row[:rank])) for row in rows
    )


def present(boxes: Boxes) -> Mask:
    """Where there is a region, shape [...]."""
    found: Mask = boxes[..., 0, 0] != ABSENT
    return found


def lengths(boxes: Boxes) -> Indices:
    """Length on each axis, [..., axes]; 0 where there is no region."""
    found: Indices = np.maximum(boxes[..., 1] - boxes[..., 0], 0)
    return found


def sizes(boxes: Boxes) -> Indices:
    """Number of elements, [...]."""
    found: Indices = lengths(boxes).prod(axis=-1)
    return found


def hull(first: Boxes, second: Boxes) -> Boxes:
    """Bounding boxes; where one of two is absent or empty, it is the other."""
    joined = np.stack(
        (np.minimum(first[..., 0], second[..., 0]), np.maximum(first[..., 1], second[..., 1])), axis=-1
    )  # fmt: skip
    nothing_first = (~present(first) | (sizes(first) == 0))[..., None, None]
    nothing_second = (~present(second) | (sizes(second) == 0))[..., None, None]
    return np.where(nothing_second & present(first)[..., None, None], first, np.where(nothing_first, second, joined))


def contains(first: Boxes, second: Boxes) -> Mask:
    """Whether all of a second box is in a first one, [...]; the arrays broadcast."""
    inside = ((first[..., 0] <= second[..., 0]) & (second[..., 1] <= first[..., 1])).all(axis=-1)
    found: Mask = ~present(second) | (present(first) & (inside | (sizes(second) == 0)))
    return found


def unique(values: Indices) -> tuple[Indices, Indices]:
    """The distinct numbers of a list, sorted, and which of them each one is; quicker on short lists than numpy's."""
    sorting, begins, where = _sorted(values)
    return values[sorting[begins]], where


def _sorted(values: Indices) -> tuple[Indices, Mask, Indices]:
    """The order of numbers, where a new one begins in it, and which of the distinct ones each is."""
    sorting = values.argsort(kind="stable")
    ranked = values[sorting]
    begins = np.ones(len(values), dtype=np.bool_)
    np.not_equal(ranked[1:], ranked[:-1], out=begins[1:])
    where = np.empty(len(values), dtype=np.int64)
    where[sorting] = begins.cumsum() - 1
    return sorting, begins, where


def distinct(rows: Indices) -> tuple[Indices, Indices]:
    """Where each distinct row of integers ≥ -1 stands first, and which of them each row is; in order of appearance.

    Columns that vary are put together into single numbers: many times as fast as numpy's sorting of whole rows.
    """
    key, span = np.zeros(len(rows), dtype=np.int64), 1
    most = rows.max(axis=0, initial=ABSENT)
    varying = np.nonzero((rows != most).any(axis=0))[0]
    for at, values in zip(varying.tolist(), (most[varying] + 2).tolist(), strict=True):
        if span * values >= 1 << 62:
            _, key = unique(key)
            span = int(key.max()) + 1
        key, span = key * values + (rows[:, at] + 1), span * values
    sorting, begins, where = _sorted(key)
    first = sorting[begins]
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[where]


def row_keys(rows: Indices) -> list[bytes]:
    """Something to tell rows apart by, [len(rows)]; rows have any further axes."""
    width = int(np.prod(rows.shape[1:])) * rows.itemsize
    blob = np.ascontiguousarray(rows).tobytes()
    return [blob[start : start + width] for start in range(0, len(blob), width)]
