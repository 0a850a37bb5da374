"""The report of a small file of results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flexpie.benchmark import paper
from flexpie.benchmark.cells import ALONE, OURS, Cell, Ground
from flexpie.benchmark.records import Failed, Record, Simulated
from flexpie.benchmark.report.pictures import find, planning_times
from flexpie.benchmark.report.style import save
from flexpie.benchmark.report.writing import write_report
from flexpie.benchmark.results import Results
from flexpie.benchmark.summary import summarise
from flexpie.core.cluster import Topology
from flexpie.core.errors import FlexPieError
from tests.unit.benchmark.examples import CELL, HEADER, TRACE, launch, small_benchmark

RING = Cell("mobilenet_v1", Ground((0.2,) * 4, 5e8, Topology.RING))
LAYERED = Cell("mobilenet_v1", CELL.ground)
LAYERS = tuple(number / 1e3 for number in range(1, 30))
BUSY = Cell("resnet18", CELL.ground, in_flight=8)


@pytest.fixture
def records() -> list[Record]:
    return [
        *small_benchmark(),
        TRACE,
        *(Simulated(LAYERED, name, 0.1, 10.0, "too large", LAYERS) for name in (OURS, "InH", "Grid2D", "OutC")),
        Failed(CELL, "pipeline", "It does not fit.", "now"),
        *(Simulated(RING, name, seconds, 1 / seconds, "too large") for name, seconds in ((OURS, 0.02), ("OutC", 0.05))),
        launch(OURS, 1, 160, 160, 170, cell=BUSY),
        launch(ALONE, 1, 100, 100, 100, cell=BUSY),
    ]


def test_pages_have_the_figures_and_all_pictures_are_there(records: list[Record], tmp_path: Path) -> None:
    written = write_report(Results(HEADER, tuple(records)), tmp_path)
    overview, cells = ((tmp_path / name).read_text() for name in ("README.md", "cells.md"))
    assert "4 cells: 2 count, 0 were measured on a noisy machine, 2 are simulated" in overview
    row = next(line for line in overview.splitlines() if line.startswith("| resnet18"))
    assert "102.0 [100.0–104.0] | 51.0 [50.0–52.0] | 2.00× | 1.59× [1.58–1.60] (InH)" in row
    assert "| 50% |" in row
    assert "our plans: median 5.9%" in overview
    assert "| InH | 81.0 [80.0–82.0] | 82.0 | 82.0 | 75.0 |" in cells
    assert "pipeline: It does not fit." in cells
    assert "Self-test: other programs used 1% of a core, devices computed 100% to 100% of their shares" in cells
    assert "*simulated*" in cells
    assert "| L5 | 2.09 | 2.07 | 2.96 | 5.00 | 5.00 | 5.00 |" in overview
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    assert {event["pid"] for event in events if event["ph"] == "X"} == {1, 2, 3}
    pictures = re.findall(r"!\[.*\]\((.*)\)", overview)
    assert "images/paper-4.svg" in pictures
    assert {tmp_path / name for name in pictures} == {path for path in written if path.suffix == ".svg"}
    for path in written:
        assert path.stat().st_size
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_same_results_give_the_same_picture(records: list[Record], tmp_path: Path) -> None:
    for name in ("first", "second"):
        save(planning_times(summarise(records)), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_file_without_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match="holds no measurement"):
        write_report(Results(HEADER, ()), tmp_path)


def test_a_file_of_busy_cells_alone_has_its_table(records: list[Record], tmp_path: Path) -> None:
    busy = tuple(record for record in records if record.cell == BUSY)
    write_report(Results(HEADER, busy), tmp_path)
    assert (
        "| resnet18 | 4 devices (20% each), 1 Gbit/s, mesh | 8 | 10.0 | 6.1 | 0.61× |"
        in (tmp_path / "README.md").read_text()
    )


def test_our_cells_are_found_for_the_papers_bars(records: list[Record]) -> None:
    results = summarise(records)
    found = find(results, "mobilenet_v1", 4, "R", "500M")
    assert found is not None
    assert found.cell == RING
    assert find(results, "mobilenet_v1", 4, "P", "500M") is None
    assert find(results, "resnet18", 4, "R", "1G") is None  # a mesh of four is no ring


def test_all_of_the_papers_bars_are_there() -> None:
    assert len(paper.published()) == 2 * len(paper.groups(4)) == 48
    for cell in paper.published():
        assert tuple(cell.milliseconds) == paper.STRATEGIES
        assert min(cell.milliseconds.values()) > 0
