"""Exchanges: who copies what to whom between two segments, by region arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flexpie.core.region import Region, subtract_all


@dataclass(frozen=True, slots=True)
class Copy:
    """One box of a tensor that travels from one device to another."""

    tensor: str
    source: int
    """Index of a device, or `flexpie.core.program.MASTER`."""
    destination: int
    region: Region


def copies_for(
    tensor: str,
    destination: int,
    needed: Region,
    held: Sequence[Region],
    owners: Mapping[int, Region],
) -> list[Copy]:
    """The copies that bring `destination` what it needs of a tensor and does not hold.

    Parameters
    ----------
    held: boxes of the tensor that the destination holds already.
    owners: the region that each source owns. Together they cover the tensor; where they overlap (a replicated
        tensor) the first source that has a box sends it.

    The copies are disjoint, cover ``needed`` minus ``held``, and come in the order of the sources.
    """
    missing = subtract_all(needed, held)
    found = []
    for source, owned in owners.items():
        if not missing:
            break
        for piece in missing:
            common = piece.intersect(owned)
            if not common.is_empty and source != destination:
                found.append(Copy(tensor, source, destination, common))
        missing = subtract_from_all(missing, owned)
    if missing:
        raise ValueError(f"{tensor}: no owner has {', '.join(map(str, missing))}")
    return found


def subtract_from_all(pieces: Sequence[Region], box: Region) -> list[Region]:
    """What is left of disjoint pieces without `box`."""
    return [part for piece in pieces for part in piece.subtract(box)]
