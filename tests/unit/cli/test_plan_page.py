"""The page of a plan: one file that needs no other, with every layer, segment and exchange in it, none on another."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from flexpie.cli.plan_layout import NODE_HEIGHT, NODE_WIDTH, plan_layout
from flexpie.cli.plan_page import plan_page
from flexpie.cli.plan_picture import amount, shape_text
from flexpie.cli.plan_report import Report
from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.scheme import IN_H
from flexpie.core.strategy import DATA_PARALLEL
from flexpie.planner.comparison import compare
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from tests.unit.planner.graphs import GraphWriter, cluster_of, residual_net

CLUSTER = cluster_of(0.2, 0.2, 0.1)


def branches() -> LayerGraph:
    """Two readers of one tensor, and a connection past several layers."""
    writer = GraphWriter()
    image = writer.input(1, 8, 16, 16)
    left, right = writer.conv(image, 8), writer.relu(image)
    for _ in range(3):
        left = writer.conv(left, 8)
    return writer.graph(writer.add(left, right), right)


def report_of(graph: LayerGraph, cluster: Cluster = CLUSTER) -> Report:
    result = make_plan(graph, cluster)
    model = PhysicsCostModel(cluster)
    return Report(graph, cluster, result, 0.1, compare(graph, cluster, result.plan, model))


class Elements(HTMLParser):
    """Every element with its attributes; refuses what is not closed."""

    VOID = frozenset({"meta", "line", "rect", "path"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.found if name in (attributes.get("class") or "").split()]


@pytest.mark.parametrize(
    "graph", [residual_net(blocks=2, size=28, channels=16), branches()], ids=["residual", "branches"]
)
def test_the_page_shows_everything_and_needs_nothing_else(graph: LayerGraph) -> None:
    report = report_of(graph)
    page = plan_page(report)
    elements = Elements(page)
    assert len(elements.of_class("layer")) == len(graph.layers)
    assert len(elements.of_class("segment")) == len(report.result.plan.segments)
    assert len(elements.of_class("end")) == len(graph.inputs) + len(graph.outputs)
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    tips = [json.loads(attributes["data-tip"] or "") for _, attributes in elements.found if "data-tip" in attributes]
    titles = [title for title, _ in tips]
    assert {layer.name for layer in graph.layers} <= set(titles)
    exchanges = [json.loads(attributes["data-tip"] or "") for attributes in elements.of_class("exchange")]
    assert exchanges[0][0].startswith("Before segment 1: ")
    whole = amount(sum(graph.tensors[name].nbytes for name in graph.inputs))
    assert len(exchanges[0][1]) > 1 or exchanges[0][1][0][1] == whole


def test_the_picture_of_turns_shows_what_one_request_sends() -> None:
    graph = residual_net(blocks=1, size=28, channels=16)
    result = make_plan(graph, CLUSTER, scheme=DATA_PARALLEL)
    assert len(result.plan.participants) == 3
    elements = Elements(plan_page(Report(graph, CLUSTER, result, 0.1, None)))
    (before, after) = (json.loads(item["data-tip"] or "") for item in elements.of_class("exchange"))
    assert before[1] == [["master → pi-0", amount(sum(graph.tensors[name].nbytes for name in graph.inputs))]]
    assert after[1] == [["pi-0 → master", amount(sum(graph.tensors[name].nbytes for name in graph.outputs))]]


def test_names_cannot_break_the_page() -> None:
    writer = GraphWriter()
    image = writer.input(1, 3, 8, 8)
    graph = writer.graph(writer.conv(image, 4))
    named = dataclasses.replace(graph, name="</title><script>alert('x')</script>&\"")
    page = plan_page(report_of(named))
    assert page.count("<script>") == 1
    assert Elements(page).found


def test_nothing_stands_on_anything_else() -> None:
    graph = branches()
    segments = [Segment(0, 2, IN_H, (1.0,)), Segment(2, 6, IN_H, (1.0,))]
    layout = plan_layout(graph, segments)
    spots = [*layout.layers, *layout.inputs.values(), *layout.outputs.values()]
    for first, second in itertools.combinations(spots, 2):
        assert abs(first.x - second.x) >= NODE_WIDTH or abs(first.y - second.y) >= NODE_HEIGHT
    for segment, band in zip(segments, layout.bands, strict=True):
        inside = layout.layers[segment.first : segment.stop]
        assert all(band.top < spot.y and spot.bottom < band.bottom for spot in inside)
    assert layout.bands[0].bottom < layout.bands[1].top
    rails = [(wire.rail, wire.source, wire.target) for wire in layout.wires if wire.rail is not None]
    assert rails
    for rail, source, target in rails:
        passed = [spot for spot in spots if source.row <= spot.row <= target.row]
        assert all(rail > spot.x + NODE_WIDTH / 2 for spot in passed)


def test_every_reader_stands_below_what_it_reads() -> None:
    graph = residual_net(blocks=3, size=28, channels=16)
    layout = plan_layout(graph, [Segment(0, 4, IN_H, (1.0,)), Segment(4, len(graph.layers), IN_H, (1.0,))])
    assert all(wire.source.bottom < wire.target.y for wire in layout.wires)


def test_amounts_and_shapes_as_people_read_them() -> None:
    assert [amount(nbytes) for nbytes in (12, 1500, 2_345_000, 3e9)] == ["12 B", "1.5 kB", "2.35 MB", "3 GB"]
    assert [shape_text(shape) for shape in ((1, 64, 56, 56), (4, 10), (), (7,))] == ["64×56×56", "4×10", "scalar", "7"]
