"""What one layer needs, yields and costs for many regions at once: `flexpie.core.footprint` on arrays.

The rules of the commonest operators have a second form here that works on arrays; all others are asked region by
region. A property test holds both to the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from flexpie.core.graph import Layer, LayerGraph, Operator
from flexpie.core.rules import BoundOperator, Rule, bind, rule_for
from flexpie.core.rules.base import GuardedRule
from flexpie.core.rules.convolution import ConvRule
from flexpie.core.rules.pointwise import BroadcastRule, UnaryRule
from flexpie.core.rules.pooling import PoolRule
from flexpie.core.rules.windows import Window, windows
from flexpie.core.tensor import Shape, TensorSpec
from flexpie.planner.boxes import (
    ABSENT,
    Boxes,
    Indices,
    Mask,
    boxes_of,
    distinct,
    hull,
    lengths,
    present,
    regions_of,
    sizes,
    whole_box,
)
from flexpie.planner.cost import LayerWork, Work, cut_axes, fixed_traits


@dataclass(frozen=True)
class LayerParts:
    """R parts of a layer."""

    needed: Mapping[str, Boxes]
    """Region of each activation that the layer reads from outside, [R, axes, 2]; absent where none is needed."""
    computed: Mapping[str, Boxes]
    """Region of each tensor that the layer yields, [R, axes, 2]."""
    weight_bytes: Indices
    """[R]"""
    works: tuple[LayerWork, ...]
    """Distinct works."""
    work: Indices
    """Number of each part's work, [R]."""


@dataclass(frozen=True)
class _OperatorParts:
    """R parts of one operator."""

    operator: Operator
    active: Mask
    """Which parts compute something of it, [R]."""
    produced: tuple[Boxes | None, ...]
    """Per output, [R, axes, 2]; None where it is omitted or never computed."""
    needed: tuple[Boxes | None, ...]
    """Per input, [R, axes, 2]."""
    flops: Indices
    """[R]"""


def layer_parts(graph: LayerGraph, layer: Layer, wanted: Mapping[str, Boxes]) -> LayerParts:
    """What computing the wanted regions of a layer's results takes.

    `wanted` holds arrays of shape [R, axes, 2]; each part wants a region of some result.
    """
    asked, count = dict(wanted), len(next(iter(wanted.values())))
    weights: dict[str, Boxes] = {}
    computed: dict[str, Boxes] = {}
    parts: list[_OperatorParts] = []
    for operator in reversed(layer.operators):
        part = _operator_parts(graph, operator, tuple(asked.pop(name, None) for name in operator.outputs), count)
        if part is None:
            continue
        parts.append(part)
        computed |= {n: boxes for n, boxes in zip(operator.outputs, part.produced, strict=True) if boxes is not None}
        for name, boxes in zip(operator.inputs, part.needed, strict=True):
            if name and boxes is not None:
                target = weights if name in graph.weights else asked
                target[name] = hull(target[name], boxes) if name in target else boxes
    nbytes = np.zeros(count, dtype=np.int64)
    for name, boxes in weights.items():
        nbytes += sizes(boxes) * graph.tensors[name].itemsize
    works, numbers = _works(graph, layer, parts[::-1])
    return LayerParts(asked, computed, nbytes, works, numbers)


def _operator_parts(
    graph: LayerGraph, operator: Operator, wanted: tuple[Boxes | None, ...], count: int
) -> _OperatorParts | None:
    """The parts of an operator; None where nobody wants anything of it."""
    active = np.zeros(count, dtype=np.bool_)
    for boxes in wanted:
        if boxes is not None:
            active |= present(boxes)
    if not active.any():
        return None
    if active.all():
        return _OperatorParts(operator, active, *_ask(bind(graph, operator), wanted))
    some = tuple(None if boxes is None else boxes[active] for boxes in wanted)
    produced, needed, flops = _ask(bind(graph, operator), some)
    everywhere = np.zeros(count, dtype=np.int64)
    everywhere[active] = flops
    return _OperatorParts(
        operator,
        active,
        tuple(_spread(boxes, active) for boxes in produced),
        tuple(_spread(boxes, active) for boxes in needed),
        everywhere,
    )


def _spread(boxes: Boxes | None, active: Mask) -> Boxes | None:
    if boxes is None:
        return None
    spread = np.full((len(active), *boxes.shape[1:]), ABSENT, dtype=np.int64)
    spread[active] = boxes
    return spread


# -------------------------------------------------------------------------------------------------- rules

_Answer = tuple[tuple[Boxes | None, ...], tuple[Boxes | None, ...], Indices]
"""Produced regions per output, needed regions per input, flops."""


def _ask(bound: BoundOperator, wanted: tuple[Boxes | None, ...]) -> _Answer:
    rule = rule_for(bound.operator)
    if isinstance(rule, GuardedRule):
        rule = rule.in_charge(bound)
    form = _FORMS.get(type(rule))
    answer = None
    if form is not None and len(wanted) == 1 and wanted[0] is not None:
        answer = form(bound, rule, wanted[0])
    return _one_by_one(bound, rule, wanted) if answer is None else answer


def _one_by_one(bound: BoundOperator, rule: Rule, wanted: tuple[Boxes | None, ...]) -> _Answer:
    """Ask for each distinct part on its own."""
    first, where = distinct(np.hstack([boxes.reshape(len(boxes), -1) for boxes in wanted if boxes is not None]))
    columns = [
        (None,) * len(first) if boxes is None else regions_of(boxes[first], len(_spec(spec).shape))
        for boxes, spec in zip(wanted, bound.outputs, strict=True)
    ]
    produced = [rule.produces(bound, part) for part in zip(*columns, strict=True)]
    needed = [rule.needs(bound, part) for part in produced]
    flops = np.array([rule.flops(bound, part) for part in produced], dtype=np.int64)
    return (
        tuple(_gathered([part[at] for part in produced], spec, where) for at, spec in enumerate(bound.outputs)),
        tuple(_gathered([part[at] for part in needed], spec, where) for at, spec in enumerate(bound.inputs)),
        flops[where],
    )


def _spec(spec: TensorSpec | None) -> TensorSpec:
    assert spec is not None, "an omitted output is never wanted"
    return spec


def _gathered(regions: Sequence[object], spec: TensorSpec | None, where: Indices) -> Boxes | None:
    if spec is None or all(region is None for region in regions):
        return None
    found: Boxes = boxes_of(regions, len(spec.shape))[where]  # type: ignore[arg-type]
    return found


def _whole(spec: TensorSpec | None, count: int) -> Boxes | None:
    if spec is None:
        return None
    box = whole_box(spec.shape)
    return np.broadcast_to(box, (count, *box.shape))


def _pointwise(bound: BoundOperator, rule: Rule, wanted: Boxes) -> _Answer:
    others = (_whole(spec, len(wanted)) for spec in bound.inputs[1:])
    return (wanted,), (wanted, *others), sizes(wanted)


def _broadcast(bound: BoundOperator, rule: Rule, wanted: Boxes) -> _Answer:
    needed = []
    for spec in bound.inputs:
        boxes = _whole(spec, len(wanted))
        if spec is not None and boxes is not None and spec.shape:
            repeated = np.array(spec.shape) == 1
            boxes = np.where(repeated[:, None], boxes, wanted[:, wanted.shape[1] - len(spec.shape) :])
        needed.append(boxes)
    return (wanted,), tuple(needed), sizes(wanted) * max(1, len(bound.inputs) - 1)


def _convolution(bound: BoundOperator, rule: Rule, wanted: Boxes) -> _Answer | None:
    assert isinstance(rule, ConvRule)
    filters = bound.input(rule.filters).shape
    geometry = windows(bound, filters[2:])
    if geometry is None or not all(map(_always_meets, geometry)):
        return None
    size = filters[0] // bound.integer("group", 1)
    first, last = wanted[:, 1, 0] // size, (wanted[:, 1, 1] - 1) // size + 1
    produced = wanted.copy()
    several = last - first > 1  # whole groups: only those are groups again
    produced[several, 1, 0], produced[several, 1, 1] = first[several] * size, last[several] * size
    read = wanted.copy()
    read[:, 1, 0], read[:, 1, 1] = first * filters[1], last * filters[1]
    _look_through(geometry, read)
    needed = [_whole(spec, len(wanted)) for spec in bound.inputs]
    needed[0] = read
    needed[rule.filters] = _sliced(filters, produced[:, 1])
    for index in rule.per_channel:
        spec = bound.inputs[index] if index < len(bound.inputs) else None
        if spec is not None and spec.size > 1:
            needed[index] = produced[:, 1:2]
    return (produced,), tuple(needed), 2 * math.prod(filters[1:]) * sizes(produced)


def _pool(bound: BoundOperator, rule: Rule, wanted: Boxes) -> _Answer | None:
    kernel = bound.integers("kernel_shape") or ()
    geometry = windows(bound, kernel)
    if geometry is None or not all(map(_always_meets, geometry)):
        return None
    read = wanted.copy()
    _look_through(geometry, read)
    others = (_whole(spec, len(wanted)) for spec in bound.inputs[1:])
    return (wanted,), (read, *others), math.prod(kernel) * sizes(wanted)


def _always_meets(window: Window) -> bool:
    """Whether no window lies in padding alone, so that no region is rounded."""
    return window.extent > window.pad_begin and window.starts_inside


def _look_through(geometry: Sequence[Window], boxes: Boxes) -> None:
    """Replace the spatial intervals of outputs by those of the inputs under their windows."""
    for axis, window in enumerate(geometry, 2):
        starts = boxes[:, axis, 0] * window.stride - window.pad_begin
        stops = (boxes[:, axis, 1] - 1) * window.stride - window.pad_begin + window.extent
        boxes[:, axis, 0] = np.maximum(starts, 0)
        boxes[:, axis, 1] = np.minimum(stops, window.length)


def _sliced(shape: Shape, first_axis: Indices) -> Boxes:
    """Regions that are whole but on the first axis."""
    boxes = np.tile(whole_box(shape), (len(first_axis), 1, 1))
    boxes[:, 0] = first_axis
    return boxes


_FORMS: Mapping[type[Rule], Callable[[BoundOperator, Rule, Boxes], _Answer | None]] = {
    UnaryRule: _pointwise,
    BroadcastRule: _broadcast,
    ConvRule: _convolution,
    PoolRule: _pool,
}
"""Forms of rules, for operators with one output; None where they do not serve an operator's use."""

# -------------------------------------------------------------------------------------------------- works


def _works(graph: LayerGraph, layer: Layer, parts: Sequence[_OperatorParts]) -> tuple[tuple[LayerWork, ...], Indices]:
    """The distinct works of a layer's parts, and the number of each part's."""
    amounts = [_amounts(graph, part) for part in parts]
    columns = [column for part, amount in zip(parts, amounts, strict=True) for column in _columns(part, amount)]
    first, where = distinct(np.hstack(columns))
    made: list[list[Work]] = [[] for _ in first]
    for part, amount in zip(parts, amounts, strict=True):
        traits = fixed_traits(graph, part.operator, part.operator is not layer.operators[0])
        inputs = _shapes(part.needed, part.operator.inputs, graph, first)
        outputs = _shapes(part.produced, part.operator.outputs, graph, first)
        cuts = {shapes: cut_axes(graph, part.operator, shapes) for shapes in dict.fromkeys(outputs)}
        # By columns, in the order of the fields: thousands are made, and keywords take half of the time.
        works = map(Work._make, zip(
            repeat(traits.op_type), *amount[first].T.tolist(), inputs, outputs,
            repeat(traits.kernel), repeat(traits.strides), repeat(traits.group), repeat(traits.linked),
            repeat(traits.dtype), map(cuts.__getitem__, outputs), repeat(traits.fed_by), repeat(traits.read_by),
            repeat(False), repeat(False), strict=False,
        ))  # fmt: skip
        for row, work, active in zip(made, works, part.active[first].tolist(), strict=True):
            if active:
                row.append(work)
    return tuple(tuple(works) for works in made), where


def _amounts(graph: LayerGraph, part: _OperatorParts) -> Indices:
    """Flops and bytes read, written, and read of weights, [R, 4]."""
    read, of_weights = np.zeros_like(part.flops), np.zeros_like(part.flops)
    for at, (name, boxes) in enumerate(zip(part.operator.inputs, part.needed, strict=True)):
        if not name or boxes is None:
            continue
        nbytes = sizes(boxes) * graph.tensors[name].itemsize
        for earlier, other in zip(part.operator.inputs[:at], part.needed[:at], strict=True):
            if earlier == name and other is not None:  # a region that is read twice counts once
                nbytes = np.where((other == boxes).all(axis=(1, 2)), 0, nbytes)
        read += nbytes
        if name in graph.weights:
            of_weights += nbytes
    written = np.zeros_like(part.flops)
    for name, boxes in zip(part.operator.outputs, part.produced, strict=True):
        if name and boxes is not None:
            written += sizes(boxes) * graph.tensors[name].itemsize
    return np.stack((part.flops, read, written, of_weights), axis=1)


def _columns(part: _OperatorParts, amount: Indices) -> list[Indices]:
    """All that a work is told apart by."""
    shapes = [
        np.where(present(boxes)[:, None], lengths(boxes), ABSENT)
        for boxes in (*part.needed, *part.produced)
        if boxes is not None
    ]
    return [part.active[:, None].astype(np.int64), amount, *shapes]


def _shapes(
    boxes: Sequence[Boxes | None], names: Sequence[str], graph: LayerGraph, rows: Indices
) -> list[tuple[Shape | None, ...]]:
    """Per row: the shape of each region."""
    columns: list[list[Shape | None]] = []
    for name, some in zip(names, boxes, strict=True):
        if some is None:
            columns.append([None] * len(rows))
            continue
        rank = len(graph.tensors[name].shape)
        chosen = some[rows]
        there, shapes = present(chosen).tolist(), lengths(chosen)[:, :rank].tolist()
        columns.append([tuple(s) if p else None for p, s in zip(there, shapes, strict=True)])
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)
