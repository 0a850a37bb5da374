"""What the rules can do: along which axes the output of an operator can be divided."""

from __future__ import annotations

from flexpie.core.region import Interval
from flexpie.core.rules.base import BoundOperator, Regions
from flexpie.core.rules.registry import rule_for


def divided_axes(bound: BoundOperator) -> tuple[bool, ...]:
    """Per axis of the first output: whether each half of it can be computed without the other.

    An axis of one element never can, nor can one whose middle lies inside a group of elements that belong together:
    ask with lengths that leave a border there.
    """
    return tuple(length > 1 and _halves_part(bound, axis) for axis, length in enumerate(bound.output().shape))


def _halves_part(bound: BoundOperator, axis: int) -> bool:
    spec, rule = bound.output(), rule_for(bound.operator)
    length = spec.shape[axis]
    for half in (Interval(0, length // 2), Interval(length // 2, length)):
        wanted: Regions = (spec.whole.with_axis(axis, half), *[None] * (len(bound.outputs) - 1))
        produced = rule.produces(bound, wanted)[0]
        if produced is None or produced[axis] != half:
            return False
    return True
