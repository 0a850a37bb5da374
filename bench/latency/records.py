"""What is measured, and the file that keeps it: one JSON object a line."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ALONE = "onnxruntime"
"""Strategy: the model in onnxruntime alone on one device, its input in place, no FlexPie."""
OURS = "auto"
FIXED = ("OutC", "InH", "InW", "Grid2D", "layer-wise", "fused-layer", "pipeline", "Single")
"""The planner's baselines, by the names that it knows them by."""
STRATEGIES = (OURS, *FIXED, ALONE)
VERSION = 1
"""Of the file."""


@dataclass(frozen=True)
class Cell:
    """One model on one testbed."""

    model: str
    devices: int
    megabits: float
    """Bandwidth of every port, in Mbit/s."""
    cpu: tuple[float, ...]
    """Share of a core of each device."""


@dataclass(frozen=True)
class Measurement:
    """One strategy in one cell."""

    cell: Cell
    strategy: str
    predicted_seconds: float
    """0 where nothing predicts it."""
    seconds: tuple[float, ...]
    """Of every inference, as the client saw it."""
    difference: float
    """Largest difference from unsplit onnxruntime, relative to the largest output."""
    failure: str = ""
    """Why there are no times: a strategy may not fit a cell."""

    @property
    def median(self) -> float:
        """Median of the measured seconds."""
        return statistics.median(self.seconds)


def append(path: Path, found: Sequence[Measurement]) -> None:
    """Add measurements to a file, which is made if it is not there."""
    with path.open("a", encoding="utf-8") as file:
        for item in found:
            file.write(json.dumps({"version": VERSION, **asdict(item)}) + "\n")


def read(path: Path) -> list[Measurement]:
    """All measurements of a file; none if it is not there. Raises ValueError for a file of another version."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        value = json.loads(line)
        if value.pop("version", None) != VERSION:
            raise ValueError(f"{path}:{number}: not a measurement of version {VERSION}; begin a new file")
        cell = value.pop("cell")
        cell["cpu"] = tuple(cell["cpu"])
        found.append(Measurement(Cell(**cell), **{**value, "seconds": tuple(value["seconds"])}))
    return found
