"""Chains of segments that end at one place in one division, and begin at each of the cuts in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flexpie.planner.boxes import Indices
from flexpie.planner.cost import Array

ANYBODY = -2
"""Stands for a set of devices that is not known."""


@dataclass
class Rows:
    """The segments that begin at one cut, one of each of N chains."""

    chains: Indices
    """[N]"""
    needs: Indices
    """Layout in which each segment needs each live tensor, [N, T]; `NOTHING` where it does not read it."""
    compute_seconds: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[N, devices]"""
    weight_bytes: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[N, devices]"""


@dataclass
class Chains:
    """What segments grow from: C ends of segments, each with a division of what is live there."""

    stop: Indices
    """Cut at which the segments of each chain end, [C]."""
    choice: Indices
    """Which of the starts at that cut, [C]."""
    first: Indices
    """First layer of the longest segment of each chain, [C]."""
    replicated: Indices
    """Set of devices that each need all of everything in front of the longest segment, [C]; `NOTHING` if growth ended
    otherwise."""
    given_up: Indices
    """The same where growth ended though longer segments could be of use, [C]: the set of devices, or `ANYBODY` where
    some need a part; `NOTHING` if it ended otherwise."""


@dataclass(frozen=True)
class Start:
    """What the chains that start at one cut have in common; arrays of shape [chains] per tensor."""

    candidates: tuple[int, ...]
    """Candidate of each chain."""
    owned: Mapping[str, Indices]
    """Layouts that live tensors have at the end of a segment that produces them."""
    wanted: Mapping[str, Indices] = field(default_factory=dict)
    """Layouts that are wanted of live tensors in any case."""


NO_START = Start((), {})


@dataclass(frozen=True)
class Grown:
    """All segments of some chains."""

    chains: Chains
    rows: tuple[Rows, ...]
    """Per cut; none begin at the last."""
    computed: tuple[Indices, ...]
    """Per cut: layout that a chain's devices compute of each live tensor, for those that its segments produce,
    [chains there, T]; `NOTHING` for the others."""
