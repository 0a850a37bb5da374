"""The pictures of a report. Each function draws one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flexpie.benchmark import paper
from flexpie.benchmark.cells import ALONE, OURS, canonical
from flexpie.benchmark.report.style import COLOURS, label
from flexpie.benchmark.summary import CellResult
from flexpie.core.strategy import BASELINES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_TIMES = 4.0
"""So many times as long as onnxruntime alone, or as the usual best: longer bars are cut."""
MOST_GROUNDS = 6
"""Shown in one picture."""
_GROUPS = [(topology, bandwidth) for topology in paper.TOPOLOGIES for bandwidth in paper.BITS_PER_SECOND]


def relative_latencies(results: Sequence[CellResult]) -> Figure:
    """Time of each strategy relative to onnxruntime alone, for the first grounds; one panel each."""
    latencies = [item for item in results if item.cell.in_flight == 1]
    grounds = list(dict.fromkeys(item.cell.ground for item in latencies))[:MOST_GROUNDS]
    rows = -(-len(grounds) // 2)
    figure = Figure(figsize=(12, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, 2 if len(grounds) > 1 else 1, squeeze=False).flat
    shown = [name for name in (OURS, *BASELINES) if any(_relative(item, name) for item in latencies)]
    for panel, ground in zip(panels, grounds, strict=False):
        here = [item for item in latencies if item.cell.ground == ground]
        _bars(panel, [item.cell.model for item in here], shown, here, _relative)
        panel.axhline(1.0, color=COLOURS[ALONE], linewidth=0.8)
        panel.set_title(str(ground), fontsize=9)
        panel.set_ylabel("time ÷ onnxruntime alone")
        _cut(panel, MOST_TIMES)
    for panel in list(figure.axes)[len(grounds) :]:
        panel.remove()
    _legend(figure)
    return figure


def beside_the_paper(results: Sequence[CellResult], nodes: int) -> Figure:
    """The paper's bars and ours for so many nodes: a row for each model, a column for each of both."""
    figure = Figure(figsize=(13, 9), layout="constrained")
    panels = figure.subplots(len(paper.MODELS), 2, squeeze=False)
    names = [f"{topology} {bandwidth}" for topology, bandwidth in _GROUPS]
    for row, (short, model) in enumerate(paper.MODELS.items()):
        left, right = panels[row]
        published = {(cell.topology, cell.bandwidth): cell.milliseconds for cell in paper.published()
                     if (cell.nodes, cell.model) == (nodes, short)}  # fmt: skip
        _draw(left, names, paper.STRATEGIES, [published.get(group) for group in _GROUPS])
        ours = [find(results, model, nodes, *group) for group in _GROUPS]
        _draw(right, names, paper.STRATEGIES, [None if item is None else _milliseconds(item) for item in ours],
              [item is not None and not item.measured for item in ours])  # fmt: skip
        if not any(ours):
            right.text(0.5, 0.5, "not measured", transform=right.transAxes, ha="center", color="grey")
        left.set_ylabel(f"{model}\nms")
    panels[0][0].set_title(f"The paper: {nodes} DSPs (R ring, P parameter server)")
    panels[0][1].set_title(f"Here: {nodes} emulated devices (R ring, P star); hatched: simulated")
    _legend(figure)
    return figure


def predicted_and_measured(results: Sequence[CellResult]) -> Figure:
    """One point for each plan that was executed."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for name in (*BASELINES, OURS):
        pairs = [pair for item in results if (pair := item.prediction(name)) is not None]
        if pairs:
            axes.scatter([measured * 1e3 for _, measured in pairs], [predicted * 1e3 for predicted, _ in pairs],
                         color=COLOURS[name], marker="o" if name == OURS else "x", s=34 if name == OURS else 20,
                         label=label(name), zorder=3 if name == OURS else 2)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="measured, ms", ylabel="predicted, ms")
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8, zorder=1)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return figure


def planning_times(results: Sequence[CellResult]) -> Figure:
    """Processor seconds of our search, beside what the paper says of its own."""
    found = planning_seconds(results)
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    places = range(len(found))
    axes.barh([place - 0.2 for place in places], list(found.values()), 0.4, color=COLOURS[OURS], label="FlexPie")
    published = [(place + 0.2, paper.SEARCH_SECONDS[model]) for place, model in enumerate(found)
                 if model in paper.SEARCH_SECONDS]  # fmt: skip
    axes.barh([place for place, _ in published], [seconds for _, seconds in published], 0.4, color="#aaaaaa",
              label="the paper's planner (another machine)")  # fmt: skip
    axes.set(xscale="log", xlabel="seconds", yticks=list(places), yticklabels=list(found))
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure


def planning_seconds(results: Sequence[CellResult]) -> dict[str, float]:
    """Processor seconds of our search by model: the median over the cells."""
    found: dict[str, list[float]] = {}
    for item in results:
        if OURS in item.planned and item.cell.in_flight == 1:
            found.setdefault(item.cell.model, []).append(item.planned[OURS].planning_seconds)
    return {model: median(values) for model, values in found.items()}


def find(results: Sequence[CellResult], model: str, nodes: int, topology: str, bandwidth: str) -> CellResult | None:
    """Our cell for a group of the paper's bars; with the largest share of a core where there are several."""
    network = canonical(paper.TOPOLOGIES[topology], nodes)
    fitting = [
        item
        for item in results
        if item.cell.model == model
        and item.cell.in_flight == 1
        and len(item.cell.ground.cpu) == nodes
        and item.cell.ground.equal
        and item.cell.ground.topology is network
        and item.cell.ground.bandwidth_bits_per_second == paper.BITS_PER_SECOND[bandwidth]
    ]
    return max(fitting, key=lambda item: item.cell.ground.cpu[0], default=None)


def _milliseconds(item: CellResult) -> dict[str, float]:
    return {name: found.value * 1e3 for name in item.strategies if (found := item.latency(name)) is not None}


def _relative(item: CellResult, name: str) -> tuple[float, float, float] | None:
    """Time relative to onnxruntime alone, and how far its interval goes down and up."""
    found = item.times_faster(ALONE, name)
    return None if found is None else (found.value, found.value - found.low, found.high - found.value)


def _bars(
    axes: Axes, groups: Sequence[str], names: Sequence[str], items: Sequence[CellResult],
    value: Callable[[CellResult, str], tuple[float, float, float] | None],
) -> None:  # fmt: skip
    width = 0.85 / max(1, len(names))
    for at, name in enumerate(names):
        points = [(place, found, item) for place, item in enumerate(items) if (found := value(item, name)) is not None]
        bars = axes.bar(
            [place + (at - (len(names) - 1) / 2) * width for place, _, _ in points],
            [found[0] for _, found, _ in points], width, color=COLOURS[name], label=label(name),
            yerr=[[found[1] for _, found, _ in points], [found[2] for _, found, _ in points]], error_kw={"lw": 0.7},
        )  # fmt: skip
        for bar, (_, _, item) in zip(bars, points, strict=True):
            bar.set_hatch("" if item.measured else "///")
    axes.set_xticks(range(len(groups)), groups)


def _draw(
    axes: Axes, groups: Sequence[str], names: Sequence[str], values: Sequence[Mapping[str, float] | None],
    hatched: Sequence[bool] = (),
) -> None:  # fmt: skip
    width = 0.85 / len(names)
    for at, name in enumerate(names):
        for place, group in enumerate(values):
            if group is not None and name in group:
                hatch = "///" if hatched and hatched[place] else ""
                axes.bar(place + (at - (len(names) - 1) / 2) * width, group[name], width, color=COLOURS[name],
                         label=label(name), hatch=hatch)  # fmt: skip
    axes.set_xticks(range(len(groups)), groups, fontsize=8)
    if tops := [max(group.values()) for group in values if group]:
        axes.set_ylim(0, max(tops) * 1.05)
        _cut(axes, MOST_TIMES * median(min(group.values()) for group in values if group))


def _cut(axes: Axes, top: float) -> None:
    """Cut bars that are higher than `top`, and say in them how high they are."""
    axes.set_ylim(0, min(top * 1.05, axes.get_ylim()[1]))
    for bar in axes.patches:
        if isinstance(bar, Rectangle) and bar.get_height() > top * 1.05:
            place = bar.get_x() + bar.get_width() / 2
            axes.text(place, top, f"{bar.get_height():.3g}", rotation=90, ha="center", va="top", fontsize=6)


def _legend(figure: Figure) -> None:
    """One legend for all panels."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=10, fontsize=8)
