"""What the FlexPie paper (arXiv 2502.15312) has published: the bars of its two result figures, its micro-benchmark by
layer (figure 2), and how long its search takes.

Its devices are TI TMS320C6678 DSPs over SRIO, on a ring or with a parameter server.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flexpie.core.cluster import Topology
from flexpie.core.strategy import AUTO, FUSED_LAYER, LAYER_WISE

STRATEGIES = ("OutC", "InH", "Grid2D", FUSED_LAYER, LAYER_WISE, AUTO)
"""In the order of the figures' bars; the last one is FlexPie."""
MODELS: Mapping[str, str] = {
    "M": "mobilenet_v1",
    "R18": "resnet18",
    "R101": "resnet101",
    "B": "bert_base",
}
"""As in the figures → example model."""
TOPOLOGIES: Mapping[str, Topology] = {"R": Topology.RING, "P": Topology.STAR}
"""As in the figures; the parameter server is the centre of a star."""
BITS_PER_SECOND: Mapping[str, float] = {"5G": 5e9, "1G": 1e9, "500M": 5e8}
SEARCH_SECONDS: Mapping[str, float] = {"mobilenet_v1": 18.5, "resnet18": 11.6, "resnet101": 76.3, "bert_base": 0.01}
"""Of the paper's own planner."""
LAYERS: Mapping[int, Mapping[int, Mapping[str, float]]] = {
    4: {
        2: {"InH": 0.63, "Grid2D": 0.65, "OutC": 2.32},
        5: {"InH": 2.09, "Grid2D": 2.07, "OutC": 2.96},
        13: {"InH": 1.44, "Grid2D": 1.26, "OutC": 1.17},
    },
    3: {
        2: {"InH": 0.86, "Grid2D": 1.24, "OutC": 2.44},
        5: {"InH": 2.80, "Grid2D": 4.10, "OutC": 3.98},
        13: {"InH": 1.77, "Grid2D": 2.43, "OutC": 1.19},
    },
}
"""Figure 2: milliseconds by nodes, layer of MobileNet (from 1) and scheme."""

_BARS = Path(__file__).parent / "data" / "paper_bars.csv"
_COLUMNS = ("OutC_ms", "InHW_ms", "Grid2D_ms", "Fused_ms", "Layerwise_ms", "FlexPie_ms")


@dataclass(frozen=True)
class PaperCell:
    """One group of bars; names as in the figures."""

    nodes: int
    model: str
    bandwidth: str
    topology: str
    milliseconds: Mapping[str, float]
    """By strategy."""


def groups(nodes: int) -> list[tuple[str, int, str, str]]:
    """Example model, nodes, topology and bandwidth of each group of bars of a result figure."""
    return [
        (model, nodes, topology, bandwidth)
        for model in MODELS.values()
        for topology in TOPOLOGIES
        for bandwidth in BITS_PER_SECOND
    ]


@cache
def published() -> tuple[PaperCell, ...]:
    """All groups of bars."""
    with _BARS.open(encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return tuple(
            PaperCell(
                int(row["nodes"]),
                row["model"],
                row["bandwidth"],
                row["topology"],
                {strategy: float(row[column]) for strategy, column in zip(STRATEGIES, _COLUMNS, strict=True)},
            )
            for row in rows
        )
