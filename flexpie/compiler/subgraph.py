"""What is handed from lowering to emitting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    narrow: Mapping[str, str] = field(default_factory=dict)
    """Activations that are float16 between devices, and what they are called there: inputs among them enter so."""
    narrow_outputs: tuple[tuple[str, Region], ...] = ()
    """Activations that leave as float16, behind `outputs`; one that the master asks for leaves as it is, too."""
