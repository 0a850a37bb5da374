"""Which files beside a model hold its weights. Whether the model is right is for the master to say."""

from __future__ import annotations

import mmap
from pathlib import Path

from flexpie.wire.onnx_files import external_locations


def external_files(model: Path) -> list[str]:
    """Locations of a model's external data, relative to its folder, once each; none for what is no ONNX file.

    Only files that exist inside of the model's folder are named: others are for the master to complain about.
    """
    folder = model.resolve().parent
    found = []
    for location in _locations(model):
        file = folder / location
        inside = file.resolve().is_relative_to(folder) and not Path(location).is_absolute()
        if inside and file.is_file() and location != model.name:
            found.append(location)
    return found


def _locations(model: Path) -> list[str]:
    if model.stat().st_size == 0:
        return []
    with (
        model.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        try:
            return list(dict.fromkeys(external_locations(view)))
        except ValueError:
            return []
