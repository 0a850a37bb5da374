"""A YAML file that remembers on which line each value stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flexpie.core.errors import ErrorCode, FlexPieError

Location = tuple[int | str, ...]
"""Keys and indices that lead to a value."""

MAX_BYTES = 1 << 20
"""No cluster is described by more; a wrong file (a model, a log) usually is larger."""


@dataclass(frozen=True)
class YamlSource:
    """The content of a YAML file. Every scalar is kept as the text that the author wrote."""

    path: Path
    value: Any
    """Nested dicts and lists of texts; keys without a value are left away."""
    lines: Mapping[Location, int]
    """Line (from 1) of each key or entry."""
    texts: Mapping[Location, str]
    """What each value looks like: the text of a scalar, "a list", or "keys with values"."""

    def line(self, location: Location) -> int:
        """The line of a value; of the nearest table around it where it is missing."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def found(self, location: Location) -> str:
        """What stands at a location."""
        return self.texts.get(location, "nothing")

    def field(self, location: Location) -> str:
        """A location as its author would say it, such as ``devices[1].address``."""
        text = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in location)
        return text.lstrip(".") or "file"


def read_yaml(path: Path) -> YamlSource:
    """Read a YAML file whose top is a table.

    Raises FlexPieError(INVALID_CLUSTER) for a file that is missing, unreadable, too large, empty or not YAML.
    """
    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = "a tab (indent with spaces)" if "'\\t'" in str(error.problem) else f"an error: {error.problem}"
        raise _invalid(f"{path}:{line}: expected YAML, found {problem}.") from None
    except yaml.YAMLError as error:
        raise _invalid(f"{path}:1: expected YAML, found an error: {' '.join(str(error).split())}.") from None
    if root is None:
        raise _invalid(f"{path}:1: expected a list of devices, found an empty file.")
    if not isinstance(root, yaml.MappingNode):
        found = root.value if isinstance(root, yaml.ScalarNode) else "a list"
        expected = "expected keys with values, such as 'devices:'"
        raise _invalid(f"{path}:1: {expected}, found {_shortened(found)!r}.")
    lines: dict[Location, int] = {}
    texts: dict[Location, str] = {}
    return YamlSource(path, _construct(path, root, (), lines, texts), lines, texts)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _invalid(f"{path}: expected a readable cluster file, found: {error.strerror}.") from None
    if len(content) > MAX_BYTES:
        raise _invalid(f"{path}: expected a cluster file of at most {MAX_BYTES} bytes, found a larger one.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _invalid(f"{path}:{line}: expected a text in UTF-8, found other bytes.") from None


class _Loader(yaml.BaseLoader):
    """Keeps texts as they are: no `no` becomes False. Has no aliases: nothing small grows large."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", mark)
        return super().compose_node(parent, index)


def _construct(
    path: Path, node: yaml.Node, location: Location, lines: dict[Location, int], texts: dict[Location, str]
) -> Any:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        texts[location] = _shortened(node.value)
        return node.value
    if isinstance(node, yaml.SequenceNode):
        texts[location] = "a list" if node.value else "an empty list"
        return [_construct(path, item, (*location, at), lines, texts) for at, item in enumerate(node.value)]
    texts[location] = "keys with values"
    table: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _invalid(f"{path}:{line}: expected a text as a key, found a list or a table.")
        inner = (*location, key.value)
        if inner in lines:
            first = lines[inner]
            raise _invalid(f"{path}:{line}: {key.value}: expected once, found again (first on line {first}).")
        lines[inner] = line
        if not _is_null(value):
            table[key.value] = _construct(path, value, inner, lines, texts)
    return table


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in {"", "~", "null"}


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _invalid(message: str) -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_CLUSTER, message, "docs/cluster-file.md describes the file.")
