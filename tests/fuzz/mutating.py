"""Makes bad input out of good input, and messages out of nothing; the same generator makes the same again."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_INTEGERS = (0, 1, -1, 2, 7, 64, 127, 128, 255, 65535, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
_NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
_TEXTS = ("", "a", "digits", "conv", "float32", "../../etc/passwd", "/", "\x00", "ä🦋", "image", "0" * 64, "x" * 5000)
_WORDS = (
    *("0", "-1", "1e308", "NaN", ".inf", "null", "~", "[]", "{}", "''", "auto", "InH", "\t", "&a", "*a", "true", "- "),
    *("!!python/none", "9" * 40, "ä", "\x00", "x" * 500, ": ", "\n", "../x", "10 Gbit/s", "-5 ms", "0 GB"),
)
_MOST_DEPTH = 5

Descriptor = Any
"""Of a message or a field: what the generated code has, and what its types say, are not the same classes."""


def mutated(draw: random.Random, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A few bytes of the content changed, lost, doubled or moved; or it is cut off, or goes on as another one."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        _mutate(draw, data, others)
    return bytes(data)


def _mutate(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = draw.randrange(len(data) + 1)
    length = min(len(data) - at, draw.choice((1, 1, 2, 4, 16, 256)))
    match draw.randrange(9):
        case 0 | 1 if length:
            data[at] ^= 1 << draw.randrange(8)
        case 2 if length:
            data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        case 3:
            data[at:at] = draw.randbytes(draw.choice((1, 2, 8)))
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at : at + length] * draw.choice((1, 1, 2, 20))
        case 6:
            target = draw.randrange(len(data) + 1)
            data[target : target + length] = data[at : at + length]
        case 7 if draw.random() < 0.3:
            del data[at:]
        case _ if others:
            other = draw.choice(others)
            data[at:] = other[draw.randrange(len(other) + 1) :]


def mutated_text(draw: random.Random, text: str) -> bytes:
    """Tokens of a text replaced, lost or doubled, lines moved; or a few bytes changed."""
    if draw.random() < 0.2:
        return mutated(draw, text.encode())
    lines = text.split("\n")
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(lines))
        match draw.randrange(5):
            case 0:
                lines.insert(draw.randrange(len(lines) + 1), lines[at])
            case 1 if len(lines) > 1:
                del lines[at]
            case 2:
                lines[at] = " " * draw.randrange(8) + lines[at].strip()
            case _:
                words = lines[at].split(" ")
                words[draw.randrange(len(words))] = draw.choice((*_WORDS, draw.choice(text.split() or [""])))
                lines[at] = " ".join(words)
    return "\n".join(lines).encode(errors="surrogateescape")


def mutated_json(draw: random.Random, value: Any) -> Any:
    """A JSON value with one part of it replaced, lost or doubled."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        copy = dict(value)
        match draw.randrange(8):
            case 0:
                del copy[key]
            case 1:
                copy[draw.choice(_TEXTS)] = copy.pop(key)
            case _:
                copy[key] = mutated_json(draw, copy[key])
        return copy
    if isinstance(value, list) and value and draw.random() < 0.85:
        at = draw.randrange(len(value))
        match draw.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], value[at], *value[at:]]
            case _:
                return [*value[:at], mutated_json(draw, value[at]), *value[at + 1 :]]
    return draw.choice((*_TEXTS, *_INTEGERS, *_NUMBERS, None, True, [], {}, [[]] * 3, {"a": 1}, "9" * 400))


def random_message(draw: random.Random, kind: Descriptor, depth: int = 0) -> Message:
    """A message of a kind, with some of its fields set to something."""
    message: Message = GetMessageClass(kind)()
    for field in kind.fields:
        if draw.random() < (0.5 if depth else 0.8):
            _fill(draw, message, field, depth)
    return message


def mutated_message(draw: random.Random, message: Message) -> Message:
    """A copy of a message, with one field somewhere in it set anew, emptied or doubled."""
    copy: Message = type(message)()
    copy.CopyFrom(message)
    target, depth = copy, 0
    while (inner := _inner_messages(target)) and draw.random() < 0.75:
        target, depth = draw.choice(inner), depth + 1
    fields: list[Descriptor] = list(target.DESCRIPTOR.fields)
    if not fields:
        return copy
    field = draw.choice(fields)
    if draw.random() < 0.3:
        target.ClearField(field.name)
    else:
        _fill(draw, target, field, depth)
    return copy


def _inner_messages(message: Message) -> list[Message]:
    found: list[Message] = []
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE or _is_map(field):
            continue
        found += list(value) if field.is_repeated else [value]
    return found


def _is_map(field: Descriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _fill(draw: random.Random, message: Message, field: Descriptor, depth: int) -> None:
    if _is_map(field):
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        if value.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name)[_scalar(draw, key)].CopyFrom(_inner(draw, value, depth))
        else:
            getattr(message, field.name)[_scalar(draw, key)] = _scalar(draw, value)
        return
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if depth > _MOST_DEPTH:
            return
        if field.is_repeated:
            getattr(message, field.name).extend([_inner(draw, field, depth) for _ in range(draw.randrange(4))])
        else:
            getattr(message, field.name).CopyFrom(_inner(draw, field, depth))
    elif field.is_repeated:
        getattr(message, field.name).extend([_scalar(draw, field) for _ in range(draw.choice((0, 1, 2, 3, 40)))])
    else:
        setattr(message, field.name, _scalar(draw, field))


def _inner(draw: random.Random, field: Descriptor, depth: int) -> Message:
    return random_message(draw, field.message_type, depth + 1)


def _scalar(draw: random.Random, field: Descriptor) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return draw.randbytes(draw.choice((0, 1, 4, 64, 3000)))
        case FieldDescriptor.CPPTYPE_STRING:
            plain = "".join(draw.choices(string.printable, k=draw.randrange(12)))
            return draw.choice((*_TEXTS, plain))
        case FieldDescriptor.CPPTYPE_BOOL:
            return draw.random() < 0.5
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return draw.choice(_NUMBERS)
        case FieldDescriptor.CPPTYPE_ENUM:
            return draw.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_INT32:
            return draw.choice([n for n in _INTEGERS if -(2**31) <= n < 2**31])
        case FieldDescriptor.CPPTYPE_UINT32:
            return draw.choice([n for n in _INTEGERS if 0 <= n < 2**32])
        case FieldDescriptor.CPPTYPE_INT64:
            return draw.choice([n for n in _INTEGERS if -(2**63) <= n < 2**63])
        case _:
            return draw.choice([n for n in _INTEGERS if n >= 0])
