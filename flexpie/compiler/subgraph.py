"""What is handed from lowering to emitting."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.footprint import OperatorPart
from flexpie.core.region import Region


@dataclass(frozen=True)
class SubgraphSpec:
    """The part of a segment that one device computes: what `emit` writes as an ONNX subgraph."""

    name: str
    parts: tuple[OperatorPart, ...]
    """In running order."""
    inputs: tuple[tuple[str, Region], ...]
    """Activations and the regions that are fed."""
    outputs: tuple[tuple[str, Region], ...]
