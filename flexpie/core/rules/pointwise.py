"""Operators whose output elements each read one place of their inputs."""

from __future__ import annotations

from collections.abc import Sequence

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole, whole_inputs


def broadcast_source(shape: Sequence[int], output: Sequence[int], region: Region) -> Region:
    """The region of an input of this shape that numpy's broadcasting repeats to `region` of the output."""
    skipped = len(output) - len(shape)
    return Region(
        Interval(0, 1) if length == 1 else interval for length, interval in zip(shape, region[skipped:], strict=True)
    )


def broadcasts(shape: Sequence[int], output: Sequence[int]) -> bool:
    """Whether numpy's broadcasting repeats an input of this shape to the output's."""
    if len(shape) > len(output):
        return False
    skipped = len(output) - len(shape)
    return all(length in (1, whole) for length, whole in zip(shape, output[skipped:], strict=True))


class UnaryRule(Rule):
    """One output element per input element; inputs beyond the first are parameters (limits of Clip), whole."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where the output's shape differs or there is a second output."""
        return (
            has_elements(bound)
            and bound.input(0).shape == bound.output().shape
            and all(spec is None for spec in bound.outputs[1:])
        )

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """The first input only."""
        return input_index == 0

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The first output, as wanted."""
        return (sole(wanted), *[None] * (len(bound.outputs) - 1))

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of the first input."""
        return (sole(produced), *whole_inputs(bound)[1:])


class DropoutRule(UnaryRule):
    """Dropout in inference, which copies. Its mask, where it is read, is all true and has the same shape."""

    def supports(self, bound: BoundOperator) -> bool:
        """Only in inference; before version 7 an attribute decided that."""
        training = bound.inputs[2] is not None if len(bound.inputs) > 2 else False
        if training and bound.constants[2] != (0,):
            return False
        return has_elements(bound) and bound.operator.version >= 7 and bound.outputs[0] is not None

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The same region of both outputs; no mask unless it is wanted."""
        present = [region for region in wanted if region is not None]
        region = present[0].hull(present[-1])
        return (region, *[None if mask is None else region for mask in wanted[1:]])


class BroadcastRule(Rule):
    """Element-wise operators over any number of inputs with numpy's broadcasting."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with the `axis` and `broadcast` attributes that came before numpy's broadcasting."""
        attributes = bound.operator.attributes
        if not has_elements(bound) or "broadcast" in attributes or "axis" in attributes:
            return False
        output = bound.output().shape
        return all(spec is None or broadcasts(spec.shape, output) for spec in bound.inputs)

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """An input that is not repeated."""
        return bound.input(input_index).shape == bound.output().shape

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What is repeated to the region."""
        region, output = sole(produced), bound.output().shape
        return tuple(None if spec is None else broadcast_source(spec.shape, output, region) for spec in bound.inputs)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """One per output element and input beyond the first."""
        return sole(produced).size * max(1, len(bound.inputs) - 1)
