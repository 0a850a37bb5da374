"""Data parallelism: every device that takes part has the whole model, and each request is answered by one of them.

Such a plan is one segment of all layers with the scheme `DATA_PARALLEL`; its shares say what part of the requests each
device is to answer. It makes no request faster, and many requests at once at the most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import DATA_PARALLEL, single


def turns(segments: Sequence[Segment]) -> dict[int, float]:
    """By index of each device that answers requests on its own: what part of them it answers, together 1. Empty for
    a plan whose devices work together."""
    if len(segments) != 1 or segments[0].scheme != DATA_PARALLEL:
        return {}
    total = sum(segments[0].shares)
    return {device: share / total for device, share in enumerate(segments[0].shares) if share > 0}


def turn(segments: Sequence[Segment], device: int) -> tuple[Segment, ...]:
    """The segments of a request that is a device's turn: those of the device alone."""
    shares = tuple(float(index == device) for index in range(len(segments[0].shares)))
    return tuple(Segment(segment.first, segment.stop, single(device), shares) for segment in segments)


def plan_of_turn(plan: Plan, device: int) -> Plan:
    """What is done for a request that is a device's turn, with what that is predicted to cost the device."""
    costs = [
        replace(cost, compute_seconds=tuple(s if d == device else 0.0 for d, s in enumerate(cost.compute_seconds)))
        for cost in plan.costs
    ]
    return replace(plan, segments=turn(plan.segments, device), costs=tuple(costs))


def plan_of_lone_request(plan: Plan) -> Plan:
    """What is done for a request that no other one is under way with: the plan itself, unless devices take turns."""
    parts = turns(plan.segments)
    return plan_of_turn(plan, next_turn(parts, {})) if parts else plan


def most_at_once(parts: Mapping[int, float], room: Mapping[int, int], most: int) -> int:
    """How many requests can be under way at once, `most` at most, where each device has room for so many and they are
    given out as by `next_turn`; a device that is missing has room for any number."""
    running: Counter[int] = Counter()
    while running.total() < most:
        device = next_turn(parts, running)
        if running[device] >= room.get(device, most):
            break
        running[device] += 1
    return running.total()


def next_turn(parts: Mapping[int, float], running: Mapping[int, int]) -> int:
    """The device that is to answer the next request: the one that would have the fewest requests under way for its
    part of them; of two the one with the larger part, then the earlier one.

    Parameters
    ----------
    parts: as `turns` gives them.
    running: the requests under way by device; none where a device is missing.
    """
    return min(parts, key=lambda device: ((running.get(device, 0) + 1) / parts[device], device))
