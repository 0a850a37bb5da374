"""`flexpie plan`: tables, JSON, plan files and the page, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import flexpie_models
from flexpie.cli.main import main
from flexpie.core.strategy import BASELINES

CLUSTER = """\
bandwidth: 1 Gbit/s
devices:
  - {name: left, address: "left:50051", speed: 0.02}
  - {name: right, address: "right:50051", speed: 0.02}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    (folder / "digits.onnx").write_bytes(flexpie_models.build("digits").SerializeToString())
    (folder / "cluster.yaml").write_text(CLUSTER)
    return folder


def run(folder: Path, *more: str) -> Result:
    given = [str(folder / "digits.onnx"), "--cluster", str(folder / "cluster.yaml"), "--shape", "image=1x1x8x8"]
    return CliRunner().invoke(main, ["plan", *given, *more])


def summary(folder: Path, *more: str) -> dict[str, Any]:
    result = run(folder, "--json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_tables_and_sentences(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    for text in ("One request, simulated: ", "Other strategies", "fused-layer", "Predicted: ", "Runner-up: "):
        assert text in result.stdout


def test_the_json_says_what_the_tables_say(folder: Path) -> None:
    found = summary(folder)
    compared = found["comparison"]
    assert {strategy["name"] for strategy in compared["strategies"]} == set(BASELINES)
    assert compared["runner_up"] in BASELINES
    assert set(found["device_times"]) == {"left", "right"}
    for times in found["device_times"].values():
        assert sum(times.values()) == pytest.approx(found["predicted_seconds"])
    assert found["exact"] in (True, False)
    assert summary(folder, "--no-compare")["comparison"] is None


def test_a_plan_that_was_written_is_explained_again(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    written = summary(folder, "--scheme", "InH", "--output", str(file))
    read = summary(folder, "--plan", str(file))
    assert read["segments"] == written["segments"]
    assert read["predicted_seconds"] == written["predicted_seconds"]
    assert read["reason"] == "The plan was given."
    assert "auto" in {strategy["name"] for strategy in read["comparison"]["strategies"]}


def test_a_page_is_written(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    assert run(folder, "--html", str(page)).exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_damaged_plan_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    summary(folder, "--output", str(file))
    content = json.loads(file.read_text())
    content["segments"][0]["shares"] = {"middle": 1.0}
    file.write_text(json.dumps(content))
    result = run(folder, "--plan", str(file))
    assert result.exit_code == 3
    assert "error [INVALID_PLAN]" in result.stderr
    assert "segments[0].shares: the cluster has no device 'middle'" in result.stderr


def test_what_is_no_text_is_no_plan(folder: Path) -> None:
    result = run(folder, "--plan", str(folder / "digits.onnx"))
    assert result.exit_code == 3
    assert "INVALID_PLAN" in result.stderr


def test_a_missing_plan_is_named(folder: Path) -> None:
    result = run(folder, "--plan", str(folder / "nowhere.json"))
    assert result.exit_code == 3
    assert "nowhere.json: No such file" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--plan", "x.json", "--scheme", "InH"),
    ],
)
def test_options_that_exclude_one_another(folder: Path, options: tuple[str, ...]) -> None:
    assert run(folder, *options).exit_code == 2


def test_files_are_for_one_profile(folder: Path) -> None:
    given = [str(folder / "digits.onnx"), "--cluster", str(folder / "cluster.yaml")]
    profiles = ["--profile", "image=1x1x8x8", "--profile", "image=2x1x8x8"]
    for option in ("--plan", "--output", "--html"):
        result = CliRunner().invoke(main, ["plan", *given, *profiles, option, "file"])
        assert result.exit_code == 2
        assert f"{option} is for one plan" in result.stderr


def test_float16_boundaries_are_told_written_and_read_again(folder: Path) -> None:
    given = ("--scheme", "InH", "--no-compare")
    exact = summary(folder, *given)
    narrow = summary(folder, *given, "--boundary", "float16", "--output", str(folder / "narrow.json"))
    assert (exact["boundary"], narrow["boundary"]) == ("float32", "float16")
    sent = [sum(segment["exchange_bytes"] for segment in found["segments"][1:]) for found in (exact, narrow)]
    assert sent[0] == 2 * sent[1] > 0
    again = run(folder, "--plan", str(folder / "narrow.json"))
    assert "Between devices float32 tensors are float16" in again.stdout
    assert "Between devices" not in run(folder, "--scheme", "InH").stdout
    both = run(folder, "--plan", str(folder / "narrow.json"), "--boundary", "float32")
    assert (both.exit_code, "either --boundary or --plan" in both.output) == (2, True)
