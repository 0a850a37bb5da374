"""`flexpie estimator`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flexpie.cli.main import main
from flexpie.planner.estimator import load_estimators
from flexpie.planner.estimator.features import FEATURES
from flexpie.traces.samples import ComputeSample
from flexpie.traces.store import TraceWriter
from flexpie.traces.works import configuration_of, work_text
from tests.unit.planner.estimator.synthetic import convolution
from tests.unit.traces.traces_samples import compute_sample


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    with TraceWriter(folder, ComputeSample) as writer:
        for device in ("d0", "d1"):
            for launch in range(3):
                for channels in range(8, 136, 8):
                    for rows in range(2, 30, 4):
                        work = work_text(convolution(channels, rows))
                        sample = compute_sample(configuration_of("layer", work), device, channels**2 * rows * 1e-9)
                        writer.add([dataclasses.replace(sample, work=work, launch=f"{device} {launch}")])
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["estimator", *map(str, arguments)])


def test_what_was_trained_can_be_used(traces: Path, tmp_path: Path) -> None:
    result = run("train", traces, "--output", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "compute.txt: trained from 672 samples" in result.output.replace("\n", "")
    estimators = load_estimators(tmp_path / "new")
    assert estimators.compute.booster.feature_name() == list(FEATURES)
    assert estimators.exchange is None


def test_evaluation_tells_errors_and_writes_a_page(traces: Path, tmp_path: Path) -> None:
    # In a process of its own: matplotlib keeps its fonts open.
    command = [sys.executable, "-m", "flexpie.cli.main", "estimator", "evaluate", str(traces), "--json"]
    result = subprocess.run([*command, "--output", str(tmp_path / "page")], capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)["compute"]
    assert found["samples"] == 672
    assert found["configurations"] == 112
    assert found["repeated_measurements"]["mean"] == pytest.approx(0, abs=1e-9)
    assert found["leave_one_device_out"]["mean"] < 0.1  # two devices that are equal
    assert set(found["by_operator"]) == {"Conv"}
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page


def test_evaluation_prints_a_table(traces: Path) -> None:
    result = run("evaluate", traces)
    assert result.exit_code == 0, result.output
    assert "Conv" in result.stdout


def test_layers_are_explained(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("devices:\n  - {name: pi, address: 'localhost:1'}\n")
    model = Path(__file__).parents[3] / "models" / "flexpie_models" / "data" / "digits.onnx"
    assert model.is_file()
    result = run("explain", model, "--cluster", tmp_path / "cluster.yaml", "--shape", "image=1,1,8,8", "--json")
    assert result.exit_code == 0, result.output
    layers = json.loads(result.stdout)["layers"]
    first = layers[0]
    product = first["physics_seconds"] * first["usual"]
    for factor in first["factors"].values():
        product *= factor
    assert product == pytest.approx(first["predicted_seconds"])
    assert set(first["factors"]) == set(FEATURES)


def test_a_layer_and_a_device_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("devices:\n  - {name: pi, address: 'localhost:1'}\n")
    model = Path(__file__).parents[3] / "models" / "flexpie_models" / "data" / "digits.onnx"
    given = ("explain", model, "--cluster", tmp_path / "cluster.yaml", "--shape", "image=1,1,8,8")
    assert "has no layer 'nobody'" in run(*given, "--layer", "nobody").stderr
    assert "has no device 'nobody'" in run(*given, "--device", "nobody").stderr


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    result = run("train", tmp_path, "--output", tmp_path / "new")
    assert result.exit_code == 3
    assert "no compute traces there" in result.stderr
