"""RNN, GRU, LSTM: sequences of a batch do not meet, nor do the two directions."""

from __future__ import annotations

from flexpie.core.graph import AttributeValue
from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, whole_inputs


class RecurrentRule(Rule):
    """X [time, batch, features], weights W, R, B with the directions first, optional lengths [batch], initial states
    [directions, batch, hidden], peepholes P; outputs Y [time, directions, batch, hidden] and last states."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with the batch first."""
        return has_elements(bound) and bound.integer("layout", 0) == 0 and bound.operator.version >= 7

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The same sequences and directions of every wanted output, at all times, with all features."""
        parts = [region[-3:-1] for region in wanted if region is not None]
        directions, batch = parts[0]
        for other_directions, other_batch in parts[1:]:
            directions, batch = directions.hull(other_directions), batch.hull(other_batch)
        if not self._directions_part(bound):
            directions = Interval(0, self._directions(bound))
        produced: list[Region | None] = []
        for region, spec in zip(wanted, bound.outputs, strict=True):
            there = region is not None and spec is not None
            produced.append(Region((*spec.whole[:-3], directions, batch, spec.whole[-1])) if there and spec else None)
        return tuple(produced)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The sequences, and the weights of the directions."""
        directions, batch = self._part(produced)
        regions = whole_inputs(bound)
        for index, spec in enumerate(bound.inputs):
            if spec is None:
                continue
            if index == 0:
                regions[index] = spec.whole.with_axis(1, batch)
            elif index == 4:
                regions[index] = Region((batch,))
            else:
                regions[index] = spec.whole.with_axis(0, directions)
                if index in {5, 6}:
                    regions[index] = Region((directions, batch, spec.whole[2]))
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """One direction of two has its own name."""
        directions, _ = self._part(produced)
        attributes: dict[str, AttributeValue | None] = {}
        if directions.length < self._directions(bound):
            attributes["direction"] = "reverse" if directions.start else "forward"
        return LocalForm(attributes)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per weight, step and sequence."""
        directions, batch = self._part(produced)
        per_direction = (bound.input(1).size + bound.input(2).size) // self._directions(bound)
        return 2 * bound.input(0).shape[0] * batch.length * directions.length * per_direction

    @staticmethod
    def _part(produced: Regions) -> tuple[Interval, Interval]:
        region = next(region for region in produced if region is not None)
        return region[-3], region[-2]

    @staticmethod
    def _directions(bound: BoundOperator) -> int:
        return bound.input(1).shape[0]

    @staticmethod
    def _directions_part(bound: BoundOperator) -> bool:
        """Whether one direction can do without the other: no attribute lists something for both."""
        return not {"activations", "activation_alpha", "activation_beta"} & bound.operator.attributes.keys()
