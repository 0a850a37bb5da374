"""The file of results: JSON lines, added one by one, so that a benchmark that ends anyhow can go on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from flexpie import __version__
from flexpie.benchmark.records import FORMAT, VERSION, Header, Record
from flexpie.core.errors import ErrorCode, FlexPieError

_HEADER = TypeAdapter(Header)
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])
_ANOTHER = "Give another file with --output."


@dataclass(frozen=True)
class Results:
    """All that a file holds."""

    header: Header
    records: tuple[Record, ...]


def read_results(path: Path) -> Results:
    """Read a file that may still be written to: a last line without its end is left out.

    Raises FlexPieError(INVALID_TRACES): no such file, another version, or not a file of results.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _refusal(path, f"{error.strerror or error}", "`flexpie bench --output FILE` writes one.") from None
    return _parse(path, text)


class ResultFile:
    """A file of results that is added to. One process at a time; use it in a `with` block."""

    def __init__(self, path: Path, header: Header) -> None:
        """`header` is written to a file that is new or empty; another one must have the same version and machine."""
        self.path = path
        self._new = header
        self.records: list[Record] = []

    def __enter__(self) -> ResultFile:
        """Raises FlexPieError(INVALID_TRACES) for a file that cannot be added to, with the reason."""
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _refusal(self.path, f"{error.strerror or error}", _ANOTHER) from None
        try:
            self._begin()
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._file)

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns."""
        self._write(_RECORD.dump_json(record))
        self.records.append(record)

    def _begin(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(self.path, "another benchmark is writing to it", f"Wait for its end. {_ANOTHER}") from None
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if text and not text.lstrip().startswith(b"{"):
            raise _refusal(self.path, f"expected a file of format {FORMAT}", _ANOTHER)
        if not whole:
            os.ftruncate(self._file, 0)
            self._write(_HEADER.dump_json(self._new))
            return
        found = _parse(self.path, whole)
        self._check_same(found.header)
        os.ftruncate(self._file, len(whole))
        self.records = list(found.records)

    def _check_same(self, header: Header) -> None:
        if header.flexpie != self._new.flexpie:
            raise _refusal(self.path, f"FlexPie {header.flexpie} has measured it, and this is {self._new.flexpie}: "
                           "figures of both must not be mixed", _ANOTHER)  # fmt: skip
        if header.machine != self._new.machine:
            raise _refusal(self.path, f"it was measured on another machine ({header.machine}), and this is "
                           f"{self._new.machine}", _ANOTHER)  # fmt: skip

    def _write(self, line: bytes) -> None:
        """A line whole, or not at all."""
        before = os.fstat(self._file).st_size
        written = os.write(self._file, line + b"\n")
        if written <= len(line):
            os.ftruncate(self._file, before)
            raise _refusal(self.path, "the disk is full", "Make room, and begin again: what is measured stays.")
        os.fsync(self._file)


def _parse(path: Path, text: bytes) -> Results:
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    header = _header(path, lines)
    records = []
    for number, line in enumerate(lines[1:], 2):
        try:
            records.append(_RECORD.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise _refusal(path, f"line {number}: {where}: {first['msg']}", "Remove that line, or the file.") from None
    return Results(header, tuple(records))


def _header(path: Path, lines: Sequence[bytes]) -> Header:
    try:
        value: Any = json.loads(lines[0]) if lines else None
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _refusal(path, f"expected a file of format {FORMAT}", "`flexpie bench --output FILE` writes one.")
    if value.get("version") != VERSION:
        raise _refusal(
            path,
            f"it has version {value.get('version')!r} of the format, and FlexPie {__version__} has version {VERSION}",
            f"Begin a new file with --output, or use the FlexPie that wrote it ({value.get('flexpie', 'unknown')}).",
        )
    try:
        return _HEADER.validate_python({**value})
    except ValidationError as error:
        first = error.errors()[0]
        raise _refusal(path, f"line 1: {'.'.join(map(str, first['loc']))}: {first['msg']}", _ANOTHER) from None


def _refusal(path: Path, what: str, remedy: str) -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_TRACES, f"{path} cannot be used: {what}.", remedy)
