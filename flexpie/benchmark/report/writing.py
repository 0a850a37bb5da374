"""Results → a folder of pages and pictures."""

from __future__ import annotations

import json
from pathlib import Path

from flexpie.benchmark import paper
from flexpie.benchmark.cells import OURS
from flexpie.benchmark.report import pages, pictures
from flexpie.benchmark.report.layers import layer_cell, layer_picture
from flexpie.benchmark.report.style import save
from flexpie.benchmark.report.timelines import perfetto, timeline_picture, traced_cell
from flexpie.benchmark.results import Results
from flexpie.benchmark.summary import summarise
from flexpie.core.errors import ErrorCode, FlexPieError

NODES = (4, 3)
"""Of the paper's two result figures."""


def write_report(results: Results, folder: Path) -> list[Path]:
    """Write README.md, cells.md and images/; returns their paths.

    Raises FlexPieError(INVALID_TRACES) where there is nothing to report.
    """
    found = summarise(results.records)
    if not found:
        raise FlexPieError(ErrorCode.INVALID_TRACES, "The file holds no measurement and no simulation.",
                           "`flexpie bench` makes some.")  # fmt: skip
    images = folder / "images"
    drawn = []
    if any(item.cell.in_flight == 1 for item in found):
        drawn.append(("Strategies against one another", "strategies.svg", pictures.relative_latencies(found)))
    drawn += [
        (f"Beside the paper: {nodes} nodes", f"paper-{nodes}.svg", pictures.beside_the_paper(found, nodes))
        for nodes in NODES
        if any(pictures.find(found, *group) for group in paper.groups(nodes))
    ]
    if any(item.prediction(OURS) for item in found):
        drawn.append(("Predicted and measured", "predicted.svg", pictures.predicted_and_measured(found)))
    if pictures.planning_seconds(found):
        drawn.append(("Planning beside the paper", "planning.svg", pictures.planning_times(found)))
    layers = {nodes: item for nodes in NODES if (item := layer_cell(found, nodes)) is not None}
    if layers:
        drawn.append(("By layer: figure 2 of the paper", "layers.svg", layer_picture(layers)))
    for _, name, figure in drawn:
        save(figure, images / name)
    named = [(title, f"images/{name}") for title, name, _ in drawn]
    written = {
        folder / "README.md": pages.overview(results.header, found, named, layers),
        folder / "cells.md": pages.cells(found),
    }
    if (traced := traced_cell(found)) is not None:
        save(timeline_picture(traced), images / "timeline.svg")
        written[folder / "timeline.json"] = json.dumps(perfetto(traced.traced[OURS]))
        written[folder / "README.md"] += pages.timeline_section(traced, "images/timeline.svg", "timeline.json")
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return [*written, *sorted(images.glob("*.svg"))]
