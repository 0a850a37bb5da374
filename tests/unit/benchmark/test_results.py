"""The file of results: whole whatever happens, and refused by name when it is not ours."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from flexpie.benchmark.records import Failed, Header
from flexpie.benchmark.results import ResultFile, read_results
from flexpie.core.errors import ErrorCode, FlexPieError
from tests.unit.benchmark.examples import CELL, HEADER, MACHINE, small_benchmark


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def write(path: Path, header: Header = HEADER) -> None:
    with ResultFile(path, header) as file:
        for record in small_benchmark():
            file.append(record)


def test_what_is_written_is_read(path: Path) -> None:
    write(path)
    assert read_results(path).header == HEADER
    assert list(read_results(path).records) == small_benchmark()
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["header", "check", "plan", "plan", *["launch"] * 6]


def test_a_file_is_gone_on_with(path: Path) -> None:
    write(path)
    with ResultFile(path, dataclasses.replace(HEADER, begun="much later")) as file:
        assert file.records == small_benchmark()
        file.append(Failed(CELL, "pipeline", "it does not fit", "now"))
        assert len(file.records) == len(small_benchmark()) + 1
    assert read_results(path).header == HEADER
    assert len(read_results(path).records) == len(small_benchmark()) + 1


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_that_a_crash_cut_off_is_left_out_and_written_over(path: Path, kept: int) -> None:
    write(path)
    whole = path.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    path.write_bytes(whole[:last] + whole[last:][:kept])
    assert len(read_results(path).records) == len(small_benchmark()) - 1
    with ResultFile(path, HEADER) as file:
        file.append(small_benchmark()[-1])
    assert path.read_bytes() == whole


def test_a_header_that_a_crash_cut_off_is_written_anew(path: Path) -> None:
    path.write_text('{"flexpie":')
    write(path)
    assert list(read_results(path).records) == small_benchmark()


def refused(path: Path, pattern: str, header: Header = HEADER) -> None:
    before = path.read_bytes()
    with pytest.raises(FlexPieError, match=pattern) as caught, ResultFile(path, header):
        pass
    assert caught.value.code is ErrorCode.INVALID_TRACES
    assert str(path) in caught.value.message
    assert caught.value.remedy
    assert path.read_bytes() == before


def test_files_of_others_are_refused_by_name_and_stay_as_they_are(path: Path) -> None:
    write(path)
    refused(path, "FlexPie 0.1.0 has measured it, and this is 9.9", dataclasses.replace(HEADER, flexpie="9.9"))
    other = dataclasses.replace(MACHINE, cores=64)
    refused(path, "another machine .*2 cores.* 64 cores", dataclasses.replace(HEADER, machine=other))
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    refused(path, r"version 2 of the format, .* has version 1.*Begin a new file with --output")
    with pytest.raises(FlexPieError, match="version 2"):
        read_results(path)


@pytest.mark.parametrize("text", ["not at all\n", "PK\x03\x04", '{"some": "json"}\n', '["list"]\n'])
def test_other_files_are_refused(path: Path, text: str) -> None:
    path.write_text(text)
    refused(path, "expected a file of format flexpie-benchmark")


def test_a_damaged_line_is_named(path: Path) -> None:
    write(path)
    path.write_text(re.sub(r'"round":2', '"round":"two"', path.read_text(), count=1))
    refused(path, r"line 8: launch\.round")


def test_two_writers_at_once_are_refused(path: Path) -> None:
    with ResultFile(path, HEADER):
        refused(path, "another benchmark is writing to it")


def test_a_file_that_is_not_there_is_refused_to_a_reader(path: Path) -> None:
    with pytest.raises(FlexPieError, match="No such file"):
        read_results(path)
