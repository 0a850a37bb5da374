"""Where the parts of a plan's picture go: layers in rows from top to bottom, a band for each segment.

A layer stands one row below the lowest layer of its own segment that it reads, in the column of one that it reads if
that is free. A tensor that is read further down than in the next row has a rail at the right of what it passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment

NODE_WIDTH, NODE_HEIGHT = 176.0, 24.0
ROW_HEIGHT = 42.0
COLUMN_WIDTH = 196.0
BAND_PADDING = 13.0
GAP = 46.0
"""Between two bands, for the exchange."""
LEFT = 232.0
"""Of the first column: labels of segments are in front of it."""
_RAIL = 11.0
"""Between two rails, and between a rail and what it passes."""

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True, slots=True)
class Spot:
    """A layer, an input or an output: the middle of its upper edge."""

    row: int
    column: int
    x: float
    y: float

    @property
    def bottom(self) -> float:
        """Of its lower edge."""
        return self.y + NODE_HEIGHT


@dataclass(frozen=True, slots=True)
class Band:
    """The area of a segment."""

    top: float
    bottom: float


@dataclass(frozen=True)
class Wire:
    """A tensor's way from who yields it to one of its readers."""

    tensor: str
    source: Spot
    target: Spot
    rail: float | None
    """Where it goes down; None for a reader in the next row."""


@dataclass
class Layout:
    """The whole picture."""

    layers: list[Spot]
    inputs: dict[str, Spot]
    outputs: dict[str, Spot]
    bands: list[Band]
    wires: list[Wire] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def plan_layout(graph: LayerGraph, segments: Sequence[Segment]) -> Layout:
    """Place all layers of a graph, and its inputs and outputs."""
    places: list[tuple[int, int]] = []
    first_rows = []
    row = 1
    for segment in segments:
        first_rows.append(row)
        row = _place_segment(graph, segment, row, places)
    first_rows.append(row)
    heights, bands = _heights(first_rows)
    spots = [_spot(at, column, heights) for at, column in places]
    inputs = {name: _spot(0, column, heights) for column, name in enumerate(graph.inputs)}
    outputs = {name: _spot(row, column, heights) for column, name in enumerate(dict.fromkeys(graph.outputs))}
    layout = Layout(spots, inputs, outputs, bands)
    layout.wires = _wires(graph, layout)
    layout.width = max(
        [spot.x + NODE_WIDTH / 2 for spot in (*spots, *inputs.values(), *outputs.values())]
        + [wire.rail for wire in layout.wires if wire.rail is not None]
    ) + 2 * _RAIL  # fmt: skip
    layout.height = heights[row] + NODE_HEIGHT + BAND_PADDING
    return layout


def _place_segment(graph: LayerGraph, segment: Segment, top: int, places: list[tuple[int, int]]) -> int:
    """Add rows and columns of a segment's layers; returns the row behind them."""
    taken: set[tuple[int, int]] = set()
    for index in range(segment.first, segment.stop):
        read = [graph.producer[name] for name in graph.layers[index].consumed if name in graph.producer]
        row = max([top, *(places[layer][0] + 1 for layer in read if layer >= segment.first)])
        column = min((places[layer][1] for layer in read), default=0)
        while (row, column) in taken:
            column += 1
        taken.add((row, column))
        places.append((row, column))
    return max(row for row, _ in taken) + 1


def _heights(first_rows: Sequence[int]) -> tuple[list[float], list[Band]]:
    """The y of every row, that of the inputs and of the outputs included, and the bands."""
    heights, bands = [BAND_PADDING], []
    y = BAND_PADDING + NODE_HEIGHT
    for first, stop in itertools.pairwise(first_rows):
        top = y + GAP
        heights += [top + BAND_PADDING + ROW_HEIGHT * number for number in range(stop - first)]
        y = heights[-1] + NODE_HEIGHT + BAND_PADDING
        bands.append(Band(top, y))
    heights.append(y + GAP)
    return heights, bands


def _spot(row: int, column: int, heights: Sequence[float]) -> Spot:
    return Spot(row, column, LEFT + NODE_WIDTH / 2 + column * COLUMN_WIDTH, heights[row])


def _wires(graph: LayerGraph, layout: Layout) -> list[Wire]:
    widest: dict[int, int] = {}
    for spot in (*layout.layers, *layout.inputs.values(), *layout.outputs.values()):
        widest[spot.row] = max(widest.get(spot.row, 0), spot.column)
    rails = _Rails(widest)
    found = []
    for tensor, source in _sources(graph, layout).items():
        targets = [layout.layers[reader] for reader in graph.readers.get(tensor, ())]
        if tensor in layout.outputs:
            targets.append(layout.outputs[tensor])
        far = [target for target in targets if target.row > source.row + 1]
        rail = rails.add(source.row, max(target.row for target in far)) if far else None
        found += [Wire(tensor, source, target, rail if target in far else None) for target in targets]
    return found


def _sources(graph: LayerGraph, layout: Layout) -> Mapping[str, Spot]:
    return layout.inputs | {name: layout.layers[layer] for name, layer in graph.producer.items()}


class _Rails:
    """Free places for rails, at the right of the layers that they pass."""

    def __init__(self, widest: Mapping[int, int]) -> None:
        self._widest = widest
        self._taken: list[tuple[int, int, float]] = []

    def add(self, first: int, last: int) -> float:
        """The x of a new rail from one row to another."""
        columns = max(self._widest.get(row, 0) for row in range(first, last + 1))
        x = LEFT + columns * COLUMN_WIDTH + NODE_WIDTH + _RAIL
        while not self._free(first, last, x):
            x += _RAIL
        self._taken.append((first, last, x))
        return x

    def _free(self, first: int, last: int, x: float) -> bool:
        others: Iterable[float] = (at for start, stop, at in self._taken if start <= last and first <= stop)
        return all(abs(at - x) >= _RAIL for at in others)
