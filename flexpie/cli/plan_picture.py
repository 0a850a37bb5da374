"""A plan as an SVG picture: the model's layers coloured by scheme, with the segments and what is sent between them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape

from flexpie.cli.plan_layout import (
    GAP,
    LEFT,
    NODE_HEIGHT,
    NODE_WIDTH,
    Layout,
    Spot,
    Wire,
    plan_layout,
)
from flexpie.cli.plan_report import Report
from flexpie.core.graph import Layer
from flexpie.core.plan import Segment
from flexpie.core.turns import plan_of_lone_request
from flexpie.planner.cost import Array
from flexpie.planner.walk import Visit, walked

_BAR_WIDTH = 190.0
_LONGEST_LABEL = 15
_CORNER = 6.0

Tip = Sequence[tuple[str, str]]
"""Lines that are shown while one points at something: a label and what it is."""


def plan_picture(report: Report) -> str:
    """The picture, as an ``svg`` element. Colours are CSS variables; ``data-tip`` holds what is told of each part."""
    plan, devices = report.result.plan, len(report.cluster.devices)
    visits = walked(report.graph, devices, plan.segments).visits
    exchanges = walked(report.graph, devices, plan_of_lone_request(plan).segments).exchanges
    layout = plan_layout(report.graph, plan.segments)
    parts = [
        *(_band(report, layout, number) for number in range(len(visits))),
        *(_exchange(report, layout, number, nbytes) for number, nbytes in enumerate(exchanges)),
        *(_wire(wire) for wire in layout.wires),
        *(_end(name, spot, report) for name, spot in (*layout.inputs.items(), *layout.outputs.items())),
        *(_node(report, layout, visit, index) for visit in visits for index in _layers(visit.segment)),
    ]
    size = (
        f'width="{layout.width:.0f}" height="{layout.height:.0f}" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}"'
    )
    label = escape(f"Plan of {report.graph.name}", quote=True)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def amount(nbytes: float) -> str:
    """Bytes as people read them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes:.0f} B"


def shape_text(shape: Sequence[int]) -> str:
    """``64×56×56``; a batch of 1 is left away."""
    lengths = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return "×".join(map(str, lengths)) or "scalar"


def _layers(segment: Segment) -> range:
    return range(segment.first, segment.stop)


def _tip(title: str, lines: Tip) -> str:
    return escape(json.dumps([title, [list(line) for line in lines]], ensure_ascii=False), quote=True)


def _text(x: float, y: float, kind: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


# ---------------------------------------------------------------------------------------------- segments


def _band(report: Report, layout: Layout, number: int) -> str:
    plan = report.result.plan
    segment, cost, band = plan.segments[number], plan.costs[number], layout.bands[number]
    kind = segment.scheme.kind.value
    seconds = max(plan_of_lone_request(plan).costs[number].compute_seconds, default=0.0)
    lines = [("computing", f"{seconds * 1e3:.2f} ms")]
    lines += [
        (name, f"{share / sum(segment.shares):.0%}, {own * 1e3:.2f} ms")
        for name, share, own in zip(plan.devices, segment.shares, cost.compute_seconds, strict=True)
        if share > 0
    ]
    tip = _tip(f"Segment {number + 1}: {kind}, {len(_layers(segment))} layers", lines)
    y = band.top + 20
    return (
        f'<g class="segment s-{kind}" data-tip="{tip}">'
        f'<rect class="band" x="0.5" y="{band.top:.1f}" width="{layout.width - 1:.1f}" '
        f'height="{band.bottom - band.top:.1f}" rx="10"/>'
        f"{_text(14, y, 'number', str(number + 1))}{_text(42, y, 'kind', kind)}"
        f"{_text(LEFT - 24, y, 'time', f'{seconds * 1e3:.2f} ms')}{_shares(segment, 14, y + 11)}</g>"
    )


def _shares(segment: Segment, x: float, y: float) -> str:
    """A bar that shows which part each device has."""
    total, parts = sum(segment.shares), []
    for device, share in enumerate(segment.shares):
        width = _BAR_WIDTH * share / total
        if width > 0:
            parts.append(
                f'<rect class="device d{device % 8}" x="{x:.1f}" y="{y:.1f}" width="{max(1.0, width - 1.5):.1f}" '
                'height="6" rx="2"/>'
            )
        x += width
    return "".join(parts)


def _exchange(report: Report, layout: Layout, number: int, nbytes: Array) -> str:
    """What travels in front of a segment; behind the last one, to the master."""
    plan = report.result.plan
    last = number == len(plan.segments)
    top = layout.bands[number - 1].bottom if number else layout.bands[0].top - GAP
    y = top + GAP / 2
    seconds = plan.gather_seconds if last else plan.costs[number].exchange_seconds
    total = float(nbytes.sum())
    ends = [*plan.devices, "master"]
    pairs = [(f"{ends[a]} → {ends[b]}", amount(float(nbytes[a, b]))) for a, b in zip(*nbytes.nonzero(), strict=True)]
    title = "To the master" if last else f"Before segment {number + 1}"
    tip = _tip(f"{title}: {amount(total)} in {len(pairs)} messages, {seconds * 1e3:.2f} ms", pairs)
    if not pairs:
        return ""
    text = f"{amount(total)} · {seconds * 1e3:.2f} ms"
    thickness = min(9.0, 1.5 + math.sqrt(total) / 250)
    return (
        f'<g class="exchange" data-tip="{tip}" tabindex="0">'
        f'<line x1="14" x2="{layout.width - 14:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="{thickness:.1f}"/>'
        f'<rect x="14" y="{y - 12:.1f}" width="{LEFT - 42:.1f}" height="24" rx="12"/>'
        f"{_text(28, y + 4, 'volume', '⇅ ' + text)}</g>"
    )


# ------------------------------------------------------------------------------------------------ layers


def _node(report: Report, layout: Layout, visit: Visit, index: int) -> str:
    layer, spot = report.graph.layers[index], layout.layers[index]
    kind = visit.segment.scheme.kind.value
    x = spot.x - NODE_WIDTH / 2
    tip = _tip(layer.name, _layer_lines(report, visit, layer))
    shape = shape_text(report.graph.tensors[layer.produced[-1]].shape) if layer.produced else ""
    return (
        f'<g class="layer s-{kind}" data-tip="{tip}">'
        f'<rect x="{x:.1f}" y="{spot.y:.1f}" width="{NODE_WIDTH:.0f}" height="{NODE_HEIGHT:.0f}" rx="5"/>'
        f"{_text(x + 9, spot.y + 16, 'operator', _label(layer))}"
        f"{_text(x + NODE_WIDTH - 9, spot.y + 16, 'shape', shape)}</g>"
    )


def _label(layer: Layer) -> str:
    first, *more = [operator.op_type for operator in layer.operators]
    if not more:
        return _shortened(first)
    both = f"{first} + {more[0]}"
    if len(more) == 1 and len(both) <= _LONGEST_LABEL:
        return both
    return f"{_shortened(first, _LONGEST_LABEL - 3)} +{len(more)}"


def _shortened(text: str, longest: int = _LONGEST_LABEL) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _layer_lines(report: Report, visit: Visit, layer: Layer) -> list[tuple[str, str]]:
    graph = report.graph
    weights = sum(graph.tensors[name].nbytes for name in layer.consumed if name in graph.weights)
    lines = [("operators", " + ".join(operator.op_type for operator in layer.operators))]
    lines += [("yields", shape_text(graph.tensors[name].shape)) for name in layer.produced[-1:]]
    lines += [("weights", amount(weights))] if weights else []
    for device, footprint in enumerate(visit.footprints):
        region = next((footprint.held[name] for name in reversed(layer.produced) if name in footprint.held), None)
        if region is not None:
            lines.append((f"{report.cluster.devices[device].name} computes", shape_text(region.shape)))
    return lines


def _end(name: str, spot: Spot, report: Report) -> str:
    """An input or an output of the model."""
    spec = report.graph.tensors[name]
    tip = _tip(name, [("shape", shape_text(spec.shape)), ("bytes", amount(spec.nbytes))])
    x = spot.x - NODE_WIDTH / 2
    return (
        f'<g class="end" data-tip="{tip}">'
        f'<rect x="{x:.1f}" y="{spot.y:.1f}" width="{NODE_WIDTH:.0f}" height="{NODE_HEIGHT:.0f}" rx="12"/>'
        f"{_text(x + 12, spot.y + 16, 'operator', _shortened(name))}"
        f"{_text(x + NODE_WIDTH - 12, spot.y + 16, 'shape', shape_text(spec.shape))}</g>"
    )


def _wire(wire: Wire) -> str:
    x1, y1, x2, y2 = wire.source.x, wire.source.bottom, wire.target.x, wire.target.y
    if wire.rail is None:
        middle = (y1 + y2) / 2
        path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"
        return f'<path class="wire" d="{path}"/>'
    # Leaves and enters beside the middle, so that a rail is told from the way to the next row.
    start, end, rail, r = x1 + NODE_WIDTH / 4, x2 + NODE_WIDTH / 4, wire.rail, _CORNER
    out, enter = y1 + 8, y2 - 8
    path = (
        f"M{start:.1f} {y1:.1f}Q{start:.1f} {out:.1f} {start + r:.1f} {out:.1f}H{rail - r:.1f}"
        f"Q{rail:.1f} {out:.1f} {rail:.1f} {out + r:.1f}V{enter - r:.1f}"
        f"Q{rail:.1f} {enter:.1f} {rail - r:.1f} {enter:.1f}H{end + r:.1f}"
        f"Q{end:.1f} {enter:.1f} {end:.1f} {y2:.1f}"
    )
    return f'<path class="wire" d="{path}"/>'
