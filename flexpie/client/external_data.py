"""Which files beside a model hold its weights.

A client has no onnx at hand, so this walks over the file's protobuf fields itself and looks only at the few that may
lead to a tensor with external data. Whether the model is right is for the master to say.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}

# Message → number of each field that may lead to a tensor → message of that field (onnx.proto).
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_MAX_DEPTH = 64


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
    found: dict[str, None] = {}
    if model.stat().st_size == 0:
        return []
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for start, stop in _entries(data, 0, len(data), "model", 0):
                fields = {number: data[a:b] for number, a, b in _fields(data, start, stop)}
                if fields.get(1) == b"location":
                    found[fields.get(2, b"").decode()] = None
        except (ValueError, IndexError):
            return []
    return list(found)


def _entries(data: mmap.mmap, start: int, stop: int, message: str, depth: int) -> Iterator[tuple[int, int]]:
    """The bounds of every entry of external data below a message."""
    if depth > _MAX_DEPTH:
        raise ValueError("too deep")
    for number, first, end in _fields(data, start, stop):
        inner = _PATHS[message].get(number)
        if inner == "entry":
            yield first, end
        elif inner is not None:
            yield from _entries(data, first, end, inner, depth + 1)


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number and bounds of every length-delimited field of a message; others are skipped."""
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, at = _varint(data, at, stop)
            if at + length > stop:
                raise ValueError("cut off")
            yield tag >> 3, at, at + length
            at += length
        elif kind == 0:
            _, at = _varint(data, at, stop)
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            raise ValueError("not a protobuf message")


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= stop:
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("too long")
