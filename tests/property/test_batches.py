"""What the planner works out for many regions at once is what the region calculus says of each."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexpie.core.footprint import Footprint
from flexpie.core.graph import Layer, LayerGraph
from flexpie.core.region import Interval, Region
from flexpie.core.tensor import TensorSpec
from flexpie.planner.batches import LayerParts, layer_parts
from flexpie.planner.boxes import boxes_of, regions_of
from flexpie.planner.cost import layer_work
from tests.conftest import LONG
from tests.random_graphs import convolutional_models
from tests.random_operators import operator_models
from tests.splitting import imported

_PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=1000 if LONG else 15, suppress_health_check=_PATIENT)
@given(st.data())
def test_parts_of_convolutional_layers(data: st.DataObject) -> None:
    _check(data, imported(data.draw(convolutional_models())).graph)


@settings(max_examples=1000 if LONG else 15, suppress_health_check=_PATIENT)
@given(st.data())
def test_parts_of_any_layer(data: st.DataObject) -> None:
    _check(data, imported(data.draw(operator_models())).graph)


def _check(data: st.DataObject, graph: LayerGraph) -> None:
    for at, layer in enumerate(graph.layers):
        names = [name for name in layer.produced if graph.last_use(name) > at]
        if not names:
            continue
        wanted = [
            {name: region for name in names if (region := data.draw(_region(graph.tensors[name]))) is not None}
            for _ in range(3)
        ]
        wanted = [some or {names[0]: graph.tensors[names[0]].whole} for some in wanted]
        asked = {name: boxes_of([some.get(name) for some in wanted], _rank(graph, name)) for name in names}
        found = layer_parts(graph, layer, {name: boxes for name, boxes in asked.items() if (boxes >= 0).any()})
        for row, some in enumerate(wanted):
            _compare(graph, layer, row, some, found)


def _compare(graph: LayerGraph, layer: Layer, row: int, wanted: dict[str, Region], found: LayerParts) -> None:
    footprint = Footprint(graph, dict(wanted))
    parts = footprint.extend(layer)
    for regions, arrays in ((footprint.wanted, found.needed), (footprint.held, found.computed)):
        for name in {*regions, *arrays}:
            boxes = arrays.get(name)
            region = None if boxes is None else regions_of(boxes[row : row + 1], _rank(graph, name))[0]
            assert region == regions.get(name), name
    nbytes = sum(region.size * graph.tensors[name].itemsize for name, region in footprint.weights.items())
    assert found.weight_bytes[row] == nbytes
    assert found.works[found.work[row]] == layer_work(graph, layer, parts)


def _rank(graph: LayerGraph, name: str) -> int:
    return len(graph.tensors[name].shape)


@st.composite
def _region(draw: st.DrawFn, spec: TensorSpec) -> Region | None:
    """Any region that is not empty, or none."""
    if spec.size == 0 or draw(st.integers(0, 5)) == 0:
        return None
    bounds = []
    for length in spec.shape:
        start = draw(st.integers(0, length - 1))
        bounds.append(Interval(start, draw(st.integers(start + 1, length))))
    return Region(bounds)
