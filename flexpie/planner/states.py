"""States of a sweep and steps between them, as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.planner.boxes import Indices, Mask
from flexpie.planner.cost import Array


@dataclass(frozen=True)
class States:
    """S ways to reach one cut, each with what every end then holds."""

    seconds: Array
    """[S]"""
    least: Array
    """What a plan costs at least that goes on from there, [S]."""
    holdings: Indices
    """Holding of each live tensor, [S, most live tensors]; padded."""
    target: Indices
    """The candidate with which the last segment ends, numbered through all cuts, [S]."""
    used: Array
    """Bytes of weights so far, [S, devices]; [S, 0] where no budget limits them."""
    origin: Indices
    """Where the last segment begins, the number of the state before it among those that were followed from there, and
    the segment, [S, 3]."""

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, which: Indices | Mask | slice) -> States:
        """Some of the states."""
        return States(
            self.seconds[which], self.least[which], self.holdings[which], self.target[which], self.used[which],
            self.origin[which],
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence[States]) -> States:
        """All states of several; at least one."""
        return States(
            np.concatenate([part.seconds for part in parts]),
            np.concatenate([part.least for part in parts]),
            np.concatenate([part.holdings for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.used for part in parts]),
            np.concatenate([part.origin for part in parts]),
        )


@dataclass(frozen=True)
class Steps:
    """Steps from one cut on: each takes a segment after a state."""

    chosen: Indices
    """The state, [steps]."""
    rows: Indices
    """The segment."""
    seconds: Array
    """Cost up to the segment's end."""
    least: Array
    """What a plan costs at least that takes the step."""

    def take(self, which: Indices | Mask) -> Steps:
        """Some of them."""
        return Steps(self.chosen[which], self.rows[which], self.seconds[which], self.least[which])


@dataclass(frozen=True)
class Limits:
    """How much a sweep looks at."""

    upper: float = math.inf
    """Nothing that is bound to cost more is followed."""
    transitions: int = 0
    """Steps after which only the most promising states of each cut are followed."""
    fallback_states: int = 8
    """How many those are."""
    fallback_steps: int = 16
    """Steps from each of them, on average."""
    budgets: Array | None = None
    """Bytes of weights that each device may hold, [devices]; infinite where there is no limit."""
    weights_onward: Array = field(default_factory=lambda: np.zeros(0))
    """With budgets: bytes of weights that the segments from each cut on need at least, on all devices together."""
