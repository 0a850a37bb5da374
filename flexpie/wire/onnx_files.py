"""Walks over the fields of ONNX files, without the onnx package and without copying them.

Clients learn which files to upload beside a model; a worker accepts a subgraph only when every file that it names is
one of its declared weights.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LARGEST_TAG = (1 << 32) - 1
"""C++ takes only so many bits of a larger one, and so would find another field there."""

# Which fields of onnx.proto lead to a tensor's external data.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_MAX_DEPTH = 200


def external_locations(model: memoryview) -> Iterator[str]:
    """The file names in a model's external data, in their order. Raises ``ValueError`` when it is no message."""
    return _locations(model, "Model", 0)


def length_delimited(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field numbers and contents of a message's length-delimited fields; the others are skipped.

    Raises ``ValueError`` when it is no message.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag > _LARGEST_TAG:
            raise ValueError("it has a field number out of range")
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _varint(message, position)
        elif wire_type == _FIXED64:
            position += 8
        elif wire_type == _FIXED32:
            position += 4
        elif wire_type == _LENGTH:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("it is cut off")
            yield tag >> 3, message[position : position + length]
            position += length
        else:
            raise ValueError(f"it has the wire type {wire_type}")
    if position > len(message):
        raise ValueError("it is cut off")


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    children = _CHILDREN[kind]
    for field, content in length_delimited(message):
        child = children.get(field)
        if child == "Entry":
            entry = dict(length_delimited(content))
            if bytes(entry.get(1, b"")) == b"location":
                yield str(entry.get(2, b""), "utf-8")
        elif child is not None:
            yield from _locations(content, child, depth + 1)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("a number is cut off")
