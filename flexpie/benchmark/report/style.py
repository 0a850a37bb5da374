"""How pictures look, and how they are kept: SVG files that are the same for the same results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from flexpie.benchmark.cells import ALONE, OURS, OURS_FLOAT16
from flexpie.core.strategy import BASELINES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Mapping[str, str] = {
    OURS: "#d62728",
    OURS_FLOAT16: "#e377c2",
    ALONE: "#222222",
    **dict(
        zip(
            BASELINES,
            ("#1f77b4", "#2ca02c", "#98df8a", "#9467bd", "#ff9f40", "#8c564b", "#7f7f7f", "#bcbd22"),
            strict=True,
        )
    ),
}
"""By strategy, the same in all pictures."""
LABELS: Mapping[str, str] = {OURS: "FlexPie", OURS_FLOAT16: "FlexPie, float16", ALONE: "onnxruntime alone"}
"""Of strategies that are not called by their name."""


def label(strategy: str) -> str:
    """What a legend calls a strategy."""
    return LABELS.get(strategy, strategy)


def save(figure: Figure, path: Path) -> None:
    """Write an SVG file: text as text, without a date, with the same ids each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "flexpie", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
