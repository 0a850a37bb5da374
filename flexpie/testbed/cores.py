"""Which core each emulated device runs on.

A quota is handed to a group's cores in pieces, and what one core has left over is of no use to the others: a process
whose threads run on several at once gets up to a third less than its share, now more, now less, and waits for the next
period whenever one of its threads wakes another. A device has one core, so it is kept to one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress


def cores_for(shares: Sequence[float], cores: Sequence[int]) -> list[int | None]:
    """The core of each device, the largest share first, on the core that is least taken.

    None for a device of more than one core, and for all where the cores cannot be divided so.
    """
    taken = dict.fromkeys(cores, 0.0)
    found: list[int | None] = [None] * len(shares)
    for device in sorted(range(len(shares)), key=lambda at: -shares[at]):
        if shares[device] > 1:
            continue
        core = min(taken, key=lambda item: taken[item])
        if taken[core] + shares[device] > 1 + 1e-9:
            return [None] * len(shares)
        taken[core] += shares[device]
        found[device] = core
    return found


def pin(pid: int, core: int) -> None:
    """Let a process run on one core only, with all threads that it has and will have."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), {core})
