"""Attention and rotary embedding of the default operator set: heads, queries and sequences do not meet."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.graph import AttributeValue
from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, sole, whole_inputs
from flexpie.core.rules.convolution import touched_groups, whole_groups
from flexpie.core.rules.pointwise import broadcasts


@dataclass(frozen=True)
class _Heads:
    """Numbers of heads; several heads of queries share one of keys and values."""

    queries: int
    keys: int

    @property
    def sharing(self) -> int:
        return self.queries // self.keys


class AttentionRule(Rule):
    """Q, K, V as [batch, heads, tokens, features], or [batch, tokens, heads · features] with numbers of heads."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with states of earlier calls, or other outputs than the first."""
        further = [spec for index, spec in enumerate(bound.inputs) if index > 3]
        if not has_elements(bound) or any(further) or any(bound.outputs[1:]):
            return False
        ranks = {len(spec.shape) for spec in (*bound.inputs[:3], bound.outputs[0]) if spec is not None}
        if len(ranks) != 1 or not ranks <= {3, 4}:
            return False
        heads = _heads(bound)
        if min(heads.queries, heads.keys) < 1 or heads.queries % heads.keys:
            return False
        mask = bound.inputs[3] if len(bound.inputs) > 3 else None
        return mask is None or (len(mask.shape) > 1 and broadcasts(mask.shape, (*_scores(bound), mask.shape[-1])))

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole heads, in whole groups where they share keys of several; with a causal mask or a window, all queries
        from the first on, for which keys a query sees depends on how many there are before it."""
        region, heads = sole(wanted), _heads(bound)
        batch, own, queries = _parts(bound, region)
        if self._counts(bound):
            queries = Interval(0, queries.stop)
        own = whole_groups(own, heads.sharing)
        grown = _region(bound, heads.queries, batch, own, queries, bound.output().shape[-1])
        return (grown, *[None] * (len(wanted) - 1))

    @staticmethod
    def _counts(bound: BoundOperator) -> bool:
        sides = (bound.integer("left_window_size", -1), bound.integer("right_window_size", -1))
        return bool(bound.integer("is_causal", 0)) or max(sides) >= 0

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The queries of the part, all keys and values of its heads, and its place in the mask."""
        heads, regions = _heads(bound), whole_inputs(bound)
        batch, own, queries = _parts(bound, sole(produced))
        shared = touched_groups(own, heads.sharing)
        regions[0] = _region(bound, heads.queries, batch, own, queries, bound.input(0).shape[-1])
        for index in (1, 2):
            tokens = bound.input(index).whole[-2]
            regions[index] = _region(bound, heads.keys, batch, shared, tokens, bound.input(index).shape[-1])
        mask = bound.inputs[3] if len(bound.inputs) > 3 else None
        if mask is not None:
            parts = (batch, own, queries, mask.whole[-1])[-len(mask.shape) :]
            pairs = zip(mask.shape, parts, strict=True)
            regions[3] = Region(Interval(0, 1) if length == 1 else part for length, part in pairs)
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The numbers of heads that are left."""
        if len(bound.output().shape) == 4:
            return LocalForm()
        own = _parts(bound, sole(produced))[1]
        shared = touched_groups(own, _heads(bound).sharing)
        attributes: dict[str, AttributeValue | None] = {"q_num_heads": own.length, "kv_num_heads": shared.length}
        return LocalForm(attributes)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Two multiply-adds per query, key and feature."""
        batch, own, queries = _parts(bound, sole(produced))
        features = bound.input(0).shape[-1] // (1 if len(bound.output().shape) == 4 else _heads(bound).queries)
        return 4 * batch.length * own.length * queries.length * bound.input(1).shape[-2] * features


class RotaryRule(Rule):
    """RotaryEmbedding: X as Attention's Q; caches [batch, tokens, half], or [positions, half] with positions
    [batch, tokens]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where the number of heads is missing."""
        rank = len(bound.input(0).shape)
        if not has_elements(bound) or bound.input(0).shape != bound.output().shape or rank not in {3, 4}:
            return False
        with_positions = len(bound.inputs) > 3 and bound.inputs[3] is not None
        caches = {len(bound.input(index).shape) for index in (1, 2)}
        heads = bound.integer("num_heads", 0)
        return caches == {2 if with_positions else 3} and (rank == 4 or (heads > 0 and self._size(bound) * heads > 0))

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Whole heads."""
        region = sole(wanted)
        return (region.with_axis(-1, _round(region[-1], self._size(bound))),)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The same place of X, and what belongs to its tokens."""
        region, regions = sole(produced), whole_inputs(bound)
        batch, tokens = region[0], region[-2]
        regions[0] = region
        if len(bound.inputs) > 3 and bound.inputs[3] is not None:
            regions[3] = Region((batch, tokens))
        else:
            for index in (1, 2):
                regions[index] = Region((batch, tokens, bound.input(index).whole[2]))
        return tuple(regions)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The number of heads that are left."""
        if len(bound.output().shape) == 4:
            return LocalForm()
        return LocalForm({"num_heads": sole(produced)[-1].length // self._size(bound)})

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Two products and a sum per element."""
        return 3 * sole(produced).size

    @staticmethod
    def _size(bound: BoundOperator) -> int:
        """Features of a head."""
        shape = bound.input(0).shape
        return shape[-1] if len(shape) == 4 else shape[-1] // bound.integer("num_heads", 1)


def _heads(bound: BoundOperator) -> _Heads:
    if len(bound.output().shape) == 4:
        return _Heads(bound.input(0).shape[1], bound.input(1).shape[1])
    return _Heads(bound.integer("q_num_heads", 0), bound.integer("kv_num_heads", 0))


def _scores(bound: BoundOperator) -> tuple[int, int, int]:
    """Shape of the scores without the keys' axis."""
    return bound.output().shape[0], _heads(bound).queries, bound.output().shape[-2]


def _parts(bound: BoundOperator, region: Region) -> tuple[Interval, Interval, Interval]:
    """Batch, heads of queries and tokens of a region of the output."""
    if len(region) == 4:
        return region[0], region[1], region[2]
    size = bound.output().shape[-1] // _heads(bound).queries
    return region[0], touched_groups(region[2], size), region[1]


def _region(bound: BoundOperator, heads: int, batch: Interval, own: Interval, tokens: Interval, width: int) -> Region:
    """The region of some of a tensor's heads, with all their features."""
    if len(bound.output().shape) == 4:
        return Region((batch, own, tokens, Interval(0, width)))
    size = width // heads
    return Region((batch, tokens, Interval(own.start * size, own.stop * size)))


def _round(interval: Interval, size: int) -> Interval:
    return Interval(interval.start // size * size, -(-interval.stop // size) * size)
