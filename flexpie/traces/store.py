"""Trace files: samples in Parquet. This is the only home of pyarrow.

A folder of traces holds parts, ``compute-00000.parquet``, ``exchange-00000.parquet`` ..., each written whole or not at
all. So a collection that was stopped goes on where it ended, and several folders can be merged. docs/traces.md
describes the columns.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import tempfile
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.traces.samples import Sample

S = TypeVar("S", bound=Sample)
Column = npt.NDArray[Any]

ROWS_PER_PART = 2000
"""What a stopped collection loses at most."""

_KIND = b"flexpie.traces.kind"
_VERSION = b"flexpie.traces.version"
_ABOVE_ZERO = frozenset({"seconds"})
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is left out, and why."""

    file: Path
    row: int
    """In the file, from 0."""
    column: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.column} is {self.found}"


@dataclass(frozen=True)
class Traces(Generic[S]):
    """Samples of one kind as columns."""

    kind: type[S]
    columns: Mapping[str, Column]
    """By name, in the order of the sample's fields, each of shape [rows]: float64, int64, or texts as objects."""
    bad: tuple[BadRow, ...] = ()
    """What was left out."""

    def __len__(self) -> int:
        return len(self.columns["configuration"])

    def samples(self) -> Iterator[S]:
        """The rows, one by one."""
        for row in zip(*(column.tolist() for column in self.columns.values()), strict=True):
            yield _sample(self.kind, iter(row))


# ------------------------------------------------------------------------------------------------ schema


def schema_of(kind: type[S]) -> pa.Schema:
    """Columns of a kind of sample: those of its fields; kind and version of the schema are in its metadata."""
    metadata = {_KIND: kind.KIND.encode(), _VERSION: str(kind.VERSION).encode()}
    return pa.schema([pa.field(name, _TYPES[leaf], False) for name, leaf in _leaves(kind)], metadata)


def _leaves(kind: Any, prefix: str = "") -> Iterator[tuple[str, type[Any]]]:
    """Names and types of the columns of a dataclass, nested ones taken apart."""
    for item in dataclasses.fields(kind):
        hint = _hints(kind)[item.name]
        if dataclasses.is_dataclass(hint):
            yield from _leaves(hint, f"{prefix}{item.name}_")
        else:
            yield prefix + item.name, hint


def _cells(sample: Any) -> Iterator[Any]:
    """The values of a sample, in the order of the columns."""
    for item in dataclasses.fields(sample):
        value = getattr(sample, item.name)
        if dataclasses.is_dataclass(value):
            yield from _cells(value)
        else:
            yield value


def _sample(kind: Any, cells: Iterator[Any]) -> Any:
    values = {}
    for item in dataclasses.fields(kind):
        hint = _hints(kind)[item.name]
        values[item.name] = _sample(hint, cells) if dataclasses.is_dataclass(hint) else next(cells)
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


# --------------------------------------------------------------------------------------------- writing


class TraceWriter(Generic[S]):
    """Appends samples to a folder, a part at a time; leaving the `with` block writes the last one, whatever ends it."""

    def __init__(self, folder: Path, kind: type[S], rows_per_part: int = ROWS_PER_PART) -> None:
        """Creates the folder; raises ``INVALID_TRACES`` where that is not possible."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _invalid(folder, f"cannot be a folder of traces: {error.strerror}.", "Name another one.") from None
        self._folder = folder
        self._kind = kind
        self._rows_per_part = rows_per_part
        self._waiting: list[S] = []

    def __enter__(self) -> TraceWriter[S]:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, samples: Iterable[S]) -> None:
        """Take samples; they are in a file after `flush`, or when there are enough of them."""
        self._waiting.extend(samples)
        if len(self._waiting) >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a part of its own."""
        if not self._waiting:
            return
        schema = schema_of(self._kind)
        rows = zip(*map(_cells, self._waiting), strict=True)
        table = pa.table(
            [pa.array(column, field.type) for column, field in zip(rows, schema, strict=True)], schema=schema
        )
        _write_part(self._folder, self._kind, table)
        self._waiting.clear()


def _write_part(folder: Path, kind: type[S], table: pa.Table) -> None:
    """Write a part whole under the next free name; writers beside this one take other names."""
    descriptor, path = tempfile.mkstemp(".tmp", f"{kind.KIND}-", folder)
    os.close(descriptor)
    try:
        pq.write_table(table, path, compression="zstd")
        os.chmod(path, 0o644)
        for number in itertools.count(len(parts_of(folder, kind))):
            try:
                os.link(path, folder / f"{kind.KIND}-{number:05d}.parquet")
                return
            except FileExistsError:
                continue
    finally:
        os.unlink(path)


# --------------------------------------------------------------------------------------------- reading


def parts_of(folder: Path, kind: type[S]) -> list[Path]:
    """The files of a folder that hold samples of a kind."""
    return sorted(folder.glob(f"{kind.KIND}-*.parquet"))


def read_traces(folders: Sequence[Path], kind: type[S]) -> Traces[S]:
    """All samples of a kind in some folders, or in single files; equal rows count once.

    Rows with what cannot be (no number, infinite, negative, a time of 0) are left out and named in `Traces.bad`.
    Raises ``INVALID_TRACES`` for a file that is truncated, no trace file, or of another kind or version, and where
    nothing is found.
    """
    files = [file for folder in folders for file in ([folder] if folder.is_file() else parts_of(folder, kind))]
    if not files:
        raise _invalid(
            ", ".join(map(str, folders)), f"no {kind.KIND} traces there.", "Collect some with `flexpie trace`."
        )
    tables, bad = [], []
    for file in files:
        table, wrong = _checked(file, _read_part(file, kind), kind)
        tables.append(table)
        bad += wrong
    merged = pa.concat_tables(tables)
    rows = merged.group_by(merged.column_names, use_threads=False).aggregate([])
    return Traces(kind, {name: rows.column(name).to_numpy() for name in rows.column_names}, tuple(bad))


def finished(folder: Path, kind: type[S]) -> set[tuple[str, str]]:
    """What a folder has already, by the columns in the kind's `KEY`: it need not be measured again."""
    if not parts_of(folder, kind):
        return set()
    columns = read_traces([folder], kind).columns
    first, second = (columns[name].tolist() for name in kind.KEY)
    return set(zip(first, second, strict=True))


def merge(folders: Sequence[Path], output: Path, kind: type[S]) -> Traces[S]:
    """Write the good rows of several folders into one part of another folder; returns them, and what was left out."""
    traces = read_traces(folders, kind)
    table = pa.table({name: pa.array(column) for name, column in traces.columns.items()}).cast(schema_of(kind))
    with TraceWriter(output, kind):  # makes the folder, or says why not
        _write_part(output, kind, table)
    return traces


def _read_part(file: Path, kind: type[S]) -> pa.Table:
    expected = schema_of(kind)
    try:
        table = pq.read_table(file, partitioning=None)
    except FileNotFoundError:
        raise _invalid(file, "no such file.", "Check the path.") from None
    except (pa.ArrowException, OSError) as error:
        problem = str(error).splitlines()[0].rstrip(".")
        raise _invalid(file, f"truncated, or no Parquet file ({problem}).",
                       "Delete it; what it held is measured again when the collection goes on.") from None  # fmt: skip
    metadata = table.schema.metadata or {}
    found_kind, found_version = (metadata.get(key, b"").decode(errors="replace") for key in (_KIND, _VERSION))
    if not found_kind:
        raise _invalid(file, "no trace file: it says no kind of samples.", "Name a folder that `flexpie trace` wrote.")
    if found_kind != kind.KIND:
        raise _invalid(file, f"holds {found_kind} samples, not {kind.KIND} samples.", "Name another file or folder.")
    if found_version != str(kind.VERSION):
        raise _invalid(file, f"has version {found_version} of the columns; this FlexPie reads version {kind.VERSION}.",
                       "Collect the traces again, or use the FlexPie that wrote them.")  # fmt: skip
    if not table.schema.equals(expected, check_metadata=False):
        # A writer that keeps no "not null" is fine; other names or types are not.
        try:
            return table.select(expected.names).cast(_nullable(expected))
        except (KeyError, pa.ArrowException) as error:
            problem = str(error).splitlines()[0].strip("'\"")
            raise _invalid(
                file, f"other columns than its version has: {problem}.", "Collect the traces again."
            ) from None
    return table.cast(_nullable(expected))


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def _checked(file: Path, table: pa.Table, kind: type[S]) -> tuple[pa.Table, list[BadRow]]:
    """The good rows of a part, and the bad ones with the first column that makes them so."""
    reasons: dict[int, BadRow] = {}
    for name in table.column_names:
        column = table.column(name)
        for row in np.flatnonzero(_wrong(name, column)).tolist():
            reasons.setdefault(row, BadRow(file, row, name, _described(column[row].as_py())))
    if not reasons:
        return table, []
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(reasons)] = False
    return table.filter(pa.array(keep)), [reasons[row] for row in sorted(reasons)]


def _wrong(name: str, column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which values cannot be; shape [rows]."""
    if pa.types.is_string(column.type):
        missing: npt.NDArray[np.bool_] = np.asarray(pc.is_null(column))
        return missing
    values = column.to_numpy().astype(np.float64)  # nulls become NaN
    with np.errstate(invalid="ignore"):
        good = np.isfinite(values) & ((values > 0) if name in _ABOVE_ZERO else (values >= 0))
    wrong: npt.NDArray[np.bool_] = ~good
    return wrong


def _described(value: Any) -> str:
    return "missing" if value is None else str(value)


def _invalid(where: object, message: str, remedy: str) -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_TRACES, f"{where}: {message}", remedy)
