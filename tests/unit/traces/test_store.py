from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.traces.samples import ComputeSample, ExchangeSample
from flexpie.traces.store import TraceWriter, finished, merge, parts_of, read_traces, schema_of
from tests.unit.traces.traces_samples import compute_sample, exchange_sample


def _write(folder: Path, *samples: ComputeSample, rows_per_part: int = 2000) -> None:
    with TraceWriter(folder, ComputeSample, rows_per_part) as writer:
        for sample in samples:
            writer.add([sample])


def _refused(file: Path) -> str:
    with pytest.raises(FlexPieError) as caught:
        read_traces([file], ComputeSample)
    assert caught.value.code is ErrorCode.INVALID_TRACES
    assert caught.value.remedy
    return caught.value.message


def _rewrite(file: Path, table: pa.Table) -> None:
    pq.write_table(table, file)


def _with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    """The table with other values in a column, as another program might have written it."""
    at = table.schema.get_field_index(name)
    return table.set_column(at, pa.field(name, table.schema.field(name).type), pa.array(values))


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    samples = [compute_sample(f"c{at}", seconds=1e-3 * (at + 1)) for at in range(5)]
    _write(tmp_path, *samples)
    traces = read_traces([tmp_path], ComputeSample)
    assert list(traces.samples()) == samples
    assert len(traces) == 5
    assert not traces.bad


def test_nested_values_are_columns_of_their_own() -> None:
    names = schema_of(ComputeSample).names
    assert {"rates_node_seconds", "rates_start_seconds"} <= set(names)
    assert "rates" not in names


def test_every_column_of_a_kind_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "traces.md").read_text()
    for kind in (ComputeSample, ExchangeSample):
        for name in schema_of(kind).names:
            assert f"`{name}`" in text, name


def test_kinds_lie_side_by_side_in_a_folder(tmp_path: Path) -> None:
    _write(tmp_path, compute_sample())
    with TraceWriter(tmp_path, ExchangeSample) as writer:
        writer.add([exchange_sample()])
    assert list(read_traces([tmp_path], ComputeSample).samples()) == [compute_sample()]
    assert list(read_traces([tmp_path], ExchangeSample).samples()) == [exchange_sample()]


def test_a_stopped_collection_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    def stopped() -> Iterator[ComputeSample]:
        yield compute_sample("c1")
        raise KeyboardInterrupt

    def collect() -> None:
        with TraceWriter(tmp_path, ComputeSample) as writer:
            writer.add([compute_sample("c0")])
            writer.add(stopped())

    with pytest.raises(KeyboardInterrupt):
        collect()
    assert finished(tmp_path, ComputeSample) == {("d0", "launch of c0"), ("d0", "launch of c1")}
    _write(tmp_path, compute_sample("c2"))
    assert len(parts_of(tmp_path, ComputeSample)) == 2
    assert len(read_traces([tmp_path], ComputeSample)) == 3


def test_nothing_is_finished_in_a_new_folder(tmp_path: Path) -> None:
    assert finished(tmp_path / "new", ComputeSample) == set()


def test_full_parts_are_written_at_once(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, ComputeSample, rows_per_part=2) as writer:
        for at in range(5):
            writer.add([compute_sample(f"c{at}")])
        assert len(read_traces([tmp_path], ComputeSample)) == 4
    assert [path.name for path in parts_of(tmp_path, ComputeSample)] == [f"compute-{at:05d}.parquet" for at in range(3)]
    assert not list(tmp_path.glob("*.tmp"))


def test_writers_beside_each_other_lose_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.unit.traces.test_store import _write, compute_sample\n"
        "_write(Path(sys.argv[1]), *(compute_sample(f'{sys.argv[2]}{at}') for at in range(8)), rows_per_part=1)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(read_traces([tmp_path], ComputeSample)) == 24


def test_merging_counts_equal_rows_once(tmp_path: Path) -> None:
    _write(tmp_path / "a", compute_sample("c0"), compute_sample("c1"))
    _write(tmp_path / "b", compute_sample("c1"), compute_sample("c1", seconds=2e-3), compute_sample("c2"))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all", ComputeSample)
    merged = read_traces([tmp_path / "all"], ComputeSample)
    assert [sample.configuration for sample in merged.samples()] == ["c0", "c1", "c1", "c2"]
    assert len(parts_of(tmp_path / "all", ComputeSample)) == 1


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("seconds", math.nan, "nan"),
        ("seconds", math.inf, "inf"),
        ("seconds", -1.0, "-1.0"),
        ("seconds", 0.0, "0.0"),
        ("rates_node_seconds", -math.inf, "-inf"),
        ("repeats", -5, "-5"),
        ("threads", None, "missing"),
        ("op_type", None, "missing"),
    ],
)
def test_bad_rows_are_named_and_left_out(tmp_path: Path, column: str, value: object, found: str) -> None:
    _write(tmp_path, compute_sample("c0"), compute_sample("c1"), compute_sample("c2"))
    (part,) = parts_of(tmp_path, ComputeSample)
    table = pq.ParquetFile(part).read()
    values = table.column(column).to_pylist()
    _rewrite(part, _with_column(table, column, [values[0], value, values[2]]))
    traces = read_traces([tmp_path], ComputeSample)
    assert [sample.configuration for sample in traces.samples()] == ["c0", "c2"]
    assert [str(bad) for bad in traces.bad] == [f"{part}: row 1: {column} is {found}"]


def test_a_row_with_two_faults_is_counted_once(tmp_path: Path) -> None:
    bad = dataclasses.replace(compute_sample(), seconds=math.nan, seconds_p90=-1.0)
    _write(tmp_path, bad, compute_sample("c1"))
    traces = read_traces([tmp_path], ComputeSample)
    assert [(row.row, row.column) for row in traces.bad] == [(0, "seconds")]
    assert len(traces) == 1


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, compute_sample())
    (part,) = parts_of(tmp_path, ComputeSample)
    part.write_bytes(part.read_bytes()[:-100])
    assert _refused(tmp_path).startswith(f"{part}: truncated, or no Parquet file (")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"seconds,flops\n1,2\n"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "compute-00000.parquet").write_bytes(content)
    assert "truncated, or no Parquet file" in _refused(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, compute_sample())
    (part,) = parts_of(tmp_path, ComputeSample)
    table = pq.ParquetFile(part).read()
    _rewrite(part, table.replace_schema_metadata({**table.schema.metadata, b"flexpie.traces.version": b"99"}))
    assert f"has version 99 of the columns; this FlexPie reads version {ComputeSample.VERSION}" in _refused(tmp_path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, ExchangeSample) as writer:
        writer.add([exchange_sample()])
    (part,) = parts_of(tmp_path, ExchangeSample)
    assert "holds exchange samples, not compute samples" in _refused(part)


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "compute-00000.parquet"
    pq.write_table(pa.table({"seconds": [1.0]}), file)
    assert "it says no kind of samples" in _refused(tmp_path)


def test_missing_columns_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, compute_sample())
    (part,) = parts_of(tmp_path, ComputeSample)
    table = pq.ParquetFile(part).read()
    _rewrite(part, table.drop_columns(["repeats"]))
    assert "other columns than its version has" in _refused(tmp_path)
    _rewrite(part, table.set_column(0, "configuration", pa.array([[1]])))
    assert "other columns than its version has" in _refused(tmp_path)


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "no compute traces there" in _refused(tmp_path)
    assert "no compute traces there" in _refused(tmp_path / "missing")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FlexPieError, match="cannot be a folder of traces"):
        TraceWriter(tmp_path / "file", ComputeSample)
