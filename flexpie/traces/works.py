"""The text form of what a device does for a layer, and what tells configurations apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flexpie.planner.cost import LayerWork, Work

PLACES = ("layer", "enter", "leave")
"""What a compute sample is of: a layer, or what happens to a tensor at a segment's border."""


_PLACELESS = Work._fields.index("enters")
"""Fields in front of those that say where the layer stands."""


def work_text(works: LayerWork) -> str:
    """JSON: a list of the layer's operators, each a list of the fields of `Work` in their order.

    Where the layer stands in its segment is not part of it.
    """
    return json.dumps([work[:_PLACELESS] for work in works], separators=(",", ":"))


def work_from_text(text: str) -> LayerWork:
    """The work that `work_text` wrote.

    Raises ValueError for a text that it did not write.
    """
    try:
        return tuple(Work(*map(_frozen, cells)) for cells in json.loads(text))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not the work of a layer: {error}") from None


def configuration_of(place: str, text: str) -> str:
    """Equal for what takes equally long on one device: a place, and a work in its text form."""
    return hashlib.sha256(f"{place} {text}".encode()).hexdigest()[:16]


def _frozen(cell: Any) -> Any:
    return tuple(_frozen(item) for item in cell) if isinstance(cell, list) else cell
