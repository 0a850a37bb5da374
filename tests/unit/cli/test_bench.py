"""`flexpie bench` without a testbed: simulated cells, options, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flexpie.benchmark.records import Simulated
from flexpie.benchmark.results import read_results
from flexpie.benchmark.summary import summarise
from flexpie.cli.bench_table import headline
from flexpie.cli.main import main


def bench(*words: str) -> Result:
    return CliRunner().invoke(main, ["bench", *words])


def test_cells_are_simulated_and_not_again(tmp_path: Path) -> None:
    output = str(tmp_path / "results.jsonl")
    words = ["--simulate", "--models", "digits", "--devices", "2,8", "--strategies", "auto,onnxruntime,InH"]
    result = bench(*words, "--output", output)
    assert result.exit_code == 0, result.output
    assert "0 cells measured; 2 simulated" in result.output
    results = summarise(read_results(Path(output)).records)
    assert [(len(item.cell.ground.cpu), item.mark) for item in results] == [(2, "simulated"), (8, "simulated")]
    for item in results:
        assert item.strategies == ["auto", "onnxruntime", "InH"]
        assert item.regret is not None
        assert item.regret.value <= 1.0
    before = Path(output).read_bytes()
    assert bench(*words, "--output", output).exit_code == 0
    assert Path(output).read_bytes() == before


def test_float16_boundaries_are_simulated_where_they_are_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    words = ["--simulate", "--models", "mobilenet_v1", "--devices", "4", "--shares", "equal"]
    assert bench(*words, "--strategies", "auto,auto-float16", "--output", str(output)).exit_code == 0
    (result,) = summarise(read_results(output).records)
    assert result.strategies == ["auto", "auto-float16"]
    faster = result.times_faster("auto-float16", "auto")
    assert faster is not None
    assert faster.value > 1.0
    assert f"auto-float16 {faster.value:.2f} times as fast as auto" in headline(result)


def test_several_requests_in_flight_are_simulated(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    words = ["--simulate", "--models", "digits", "--in-flight", "1,4", "--strategies", "InH", "--output", str(output)]
    assert bench(*words).exit_code == 0
    one, four = (record for record in read_results(output).records if isinstance(record, Simulated))
    assert (one.cell.in_flight, four.cell.in_flight) == (1, 4)
    assert four.requests_per_second > one.requests_per_second


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--models", "resnet19"], "There is no example model resnet19"),
        (["--strategies", "magic"], "'magic' is none of auto, onnxruntime"),
        (["--devices", "2,many"], "'2,many' is not made of numbers"),
        (["--topology", "torus"], "'torus' is none of mesh, ring, star"),
        (["--cpu", "20%,10%"], "--cpu takes one share"),
    ],
)
def test_what_there_is_not_is_refused(words: list[str], text: str, tmp_path: Path) -> None:
    result = bench("--simulate", *words, "--output", str(tmp_path / "results.jsonl"))
    assert result.exit_code in {2, 3}
    assert text in result.output


def test_a_file_that_is_there_is_refused_if_it_is_not_to_be_gone_on_with(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    output.write_text("something")
    result = bench("--simulate", "--no-resume", "--output", str(output))
    assert result.exit_code == 3
    assert "is there already" in result.output
    assert output.read_text() == "something"


def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    output.write_text(json.dumps({"format": "flexpie-benchmark", "version": 99, "flexpie": "7.0"}) + "\n")
    result = bench("--simulate", "--output", str(output))
    assert result.exit_code == 3
    assert f"{output} cannot be used: it has version 99" in result.output
    assert "7.0" in result.output


def test_measuring_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = bench("--models", "digits", "--output", str(tmp_path / "results.jsonl"))
    assert result.exit_code == 3
    assert "root" in result.output
