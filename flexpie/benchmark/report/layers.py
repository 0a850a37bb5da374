"""The paper's micro-benchmark by layer (its figure 2) beside ours: what a layer takes in each scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from flexpie.benchmark import paper
from flexpie.benchmark.report.style import COLOURS
from flexpie.benchmark.summary import CellResult

MODEL = "mobilenet_v1"
SCHEMES = ("InH", "Grid2D", "OutC")
"""Every layer in the same one: a segment of these plans is a layer."""


def layer_cell(results: Sequence[CellResult], nodes: int) -> CellResult | None:
    """The first cell of that many equal devices in which all schemes tell how long their layers take."""
    for item in results:
        ground = item.cell.ground
        fits = item.cell.model == MODEL and ground.equal and len(ground.cpu) == nodes
        if fits and all(item.segment_seconds(scheme) for scheme in SCHEMES):
            return item
    return None


def layer_milliseconds(item: CellResult) -> dict[str, tuple[float, ...]]:
    """By scheme, of each layer."""
    return {scheme: tuple(1e3 * value for value in item.segment_seconds(scheme)) for scheme in SCHEMES}


def layer_picture(cells: Mapping[int, CellResult]) -> Figure:
    """Two rows: figure 2 beside our bars for the same layers; and all layers of our cells. `cells` are by nodes."""
    figure = Figure(figsize=(12, 3.2 * len(cells)), layout="constrained")
    panels = figure.subplots(len(cells), 3, squeeze=False, width_ratios=(1, 1, 2))
    for row, (nodes, item) in zip(panels, cells.items(), strict=True):
        ours = layer_milliseconds(item)
        published = paper.LAYERS[nodes]
        chosen = {layer: {scheme: ours[scheme][layer - 1] for scheme in SCHEMES} for layer in published}
        hatch = "" if item.measured else "///"
        for axes, values, title, pattern in (
            (row[0], published, f"the paper, {nodes} DSPs", ""),
            (row[1], chosen, f"here, {nodes} devices{'' if item.measured else ' (simulated)'}", hatch),
        ):
            for at, scheme in enumerate(SCHEMES):
                places = [place + 0.28 * (at - 1) for place in range(len(values))]
                axes.bar(places, [bars[scheme] for bars in values.values()], 0.28, color=COLOURS[scheme],
                         label=scheme, hatch=pattern)  # fmt: skip
            axes.set_xticks(range(len(values)), [f"L{layer}" for layer in values])
            axes.set(title=title, ylabel="ms")
        for scheme in SCHEMES:
            row[2].plot(range(1, len(ours[scheme]) + 1), ours[scheme], color=COLOURS[scheme], marker=".", label=scheme)
        row[2].set(title=f"every layer: {item.cell.ground}", xlabel="layer", ylabel="ms")
        row[2].grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    return figure
