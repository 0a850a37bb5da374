"""Schemes: how one tensor is divided over the devices."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from flexpie.core.region import Interval, Region


class SchemeKind(enum.Enum):
    """The ways to divide a tensor.

    Images are [batch, channel, row, column], sequences [batch, token, feature] with rows for tokens and channels for
    features, attention scores [batch, head, token, token] with channels for heads. Tensors with more axes are divided
    along their second, third, fourth and first axis, whatever these hold.
    """

    IN_H = "InH"
    IN_W = "InW"
    OUT_C = "OutC"
    GRID_2D = "Grid2D"
    BATCH = "Batch"
    SINGLE = "Single"
    REPLICATED = "Replicated"
    DATA_PARALLEL = "DataParallel"
    """Every device has the whole model, and answers requests of its own (`flexpie.core.turns`)."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to divide a tensor; `device` is set for ``SINGLE`` only."""

    kind: SchemeKind
    device: int | None = None
    """Index of the only device that owns the tensor."""

    def __post_init__(self) -> None:
        if (self.kind is SchemeKind.SINGLE) != (self.device is not None):
            raise ValueError("a device belongs to the scheme Single, and only to it")

    def __str__(self) -> str:
        return f"Single({self.device})" if self.kind is SchemeKind.SINGLE else self.kind.value


IN_H = Scheme(SchemeKind.IN_H)
IN_W = Scheme(SchemeKind.IN_W)
OUT_C = Scheme(SchemeKind.OUT_C)
GRID_2D = Scheme(SchemeKind.GRID_2D)
BATCH = Scheme(SchemeKind.BATCH)
REPLICATED = Scheme(SchemeKind.REPLICATED)
DATA_PARALLEL = Scheme(SchemeKind.DATA_PARALLEL)
SPLITTING = (IN_H, IN_W, OUT_C, GRID_2D, BATCH)
"""The schemes that divide a tensor."""


def single(device: int) -> Scheme:
    """The scheme that leaves the whole tensor to one device."""
    return Scheme(SchemeKind.SINGLE, device)


def channel_axis(rank: int) -> int | None:
    """Axis that OutC divides: channels of an image, features of a sequence, the only axis of a vector."""
    return {0: None, 1: 0, 2: 1, 3: 2}.get(rank, 1)


def batch_axis(rank: int) -> int | None:
    """Axis that Batch divides: the first, where it is not the only one."""
    return 0 if rank >= 2 else None


def row_axis(rank: int) -> int | None:
    """Axis that InH divides: rows of an image, tokens of a sequence; vectors and matrices have none."""
    return None if rank < 3 else (1 if rank == 3 else 2)


def column_axis(rank: int) -> int | None:
    """Axis that InW divides; only images have one."""
    return None if rank < 4 else 3


def divide(length: int, shares: Sequence[float], grain: int = 1) -> list[Interval]:
    """Cut ``[0, length)`` into one interval per share, in proportion, by largest remainders.

    Cuts fall on multiples of `grain`. Devices whose part rounds to nothing are idle: they get an empty interval.
    Shares are weights ≥ 0 with a positive sum; a share of 0 always gets an empty interval. The larger share wins a
    tie, then the earlier device.
    """
    if grain > 1:
        steps = divide(-(-length // grain), shares)
        return [Interval(min(length, part.start * grain), min(length, part.stop * grain)) for part in steps]
    total = math.fsum(shares)
    exact = [length * share / total for share in shares]
    counts = [math.floor(part + 1e-9) for part in exact]
    by_remainder = sorted(
        (index for index, share in enumerate(shares) if share > 0),
        key=lambda index: (counts[index] - exact[index], -shares[index], index),
    )
    for index in by_remainder[: length - sum(counts)]:
        counts[index] += 1
    stops = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [Interval(stop - count, stop) for stop, count in zip(stops, counts, strict=True)]


def _grid(shape: Sequence[int], rows: int, columns: int, shares: Sequence[float], grain: Sequence[int]) -> list[Region]:
    """Bands of rows in proportion to their devices' shares, each cut into columns by its devices' shares.

    Any number of devices works: three make a band of two and a band of one, each area in proportion to its share.
    Bands run to and fro, so that neighbours on a ring of four are neighbours in the grid.
    """
    active = [index for index, share in enumerate(shares) if share > 0]
    bands = max(1, round(math.sqrt(len(active))))
    regions = [Region.empty(len(shape))] * len(shares)
    groups = [[active[at] for at in range(part.start, part.stop)] for part in divide(len(active), [1.0] * bands)]
    heights = divide(shape[rows], [math.fsum(shares[index] for index in group) for group in groups], grain[rows])
    for number, (band, height) in enumerate(zip(groups, heights, strict=True)):
        group = band[::-1] if number % 2 else band
        for index, width in zip(group, divide(shape[columns], [shares[i] for i in group], grain[columns]), strict=True):
            regions[index] = Region.whole(shape).with_axis(rows, height).with_axis(columns, width)
    return regions


def owned_regions(
    scheme: Scheme, shape: Sequence[int], shares: Sequence[float], grain: Sequence[int] = ()
) -> tuple[Region | None, ...]:
    """The region of a tensor that each device owns; None where it owns nothing.

    `grain` is the step in which each axis is divided; empty for single elements.

    Owned regions are disjoint and cover the tensor, but for ``REPLICATED`` and ``DATA_PARALLEL``, where every device
    owns all of it. A scheme that divides an axis which the tensor does not have leaves it whole to the device with the
    largest share (an axis of length 1). Devices with share 0 own nothing, whatever the scheme.
    """
    return _owned_regions(scheme, tuple(shape), tuple(shares), tuple(grain))


@lru_cache(maxsize=4096)  # planning asks again and again, and a model has few shapes
def _owned_regions(
    scheme: Scheme, shape: tuple[int, ...], shares: tuple[float, ...], grain: tuple[int, ...]
) -> tuple[Region | None, ...]:
    whole = Region.whole(shape)
    if scheme.kind is SchemeKind.SINGLE:
        return tuple(whole if index == scheme.device else None for index in range(len(shares)))
    if scheme in (REPLICATED, DATA_PARALLEL):
        return tuple(whole if share > 0 else None for share in shares)
    grain = grain or (1,) * len(shape)
    rows, columns = row_axis(len(shape)), column_axis(len(shape))
    if scheme.kind is SchemeKind.GRID_2D and rows is not None and columns is not None:
        regions = _grid(shape, rows, columns, shares, grain)
    else:
        axes = {
            SchemeKind.IN_W: columns,
            SchemeKind.OUT_C: channel_axis(len(shape)),
            SchemeKind.BATCH: batch_axis(len(shape)),
        }
        axis = axes.get(scheme.kind, rows)
        if axis is None:
            largest = max(range(len(shares)), key=lambda index: shares[index])
            return tuple(whole if index == largest else None for index in range(len(shares)))
        regions = [whole.with_axis(axis, part) for part in divide(shape[axis], shares, grain[axis])]
    if whole.is_empty:  # nothing to own, but the tensor exists: the first active device keeps it
        first = next(index for index, share in enumerate(shares) if share > 0)
        return tuple(whole if index == first else None for index in range(len(shares)))
    return tuple(None if region.is_empty else region for region in regions)
