"""Compute samples through the command: drawn, measured, and not again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner

import flexpie_models
from flexpie.cli.main import main
from flexpie.traces.compute_tasks import compute_tasks, launch_of
from flexpie.traces.samples import ComputeSample
from flexpie.traces.store import read_traces

SHAPES = {"image": (1, 1, 8, 8)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    path.write_bytes(flexpie_models.build("digits").SerializeToString())
    return path


def test_every_model_has_its_turn_with_another_plan_each_time() -> None:
    models = [(Path("a.onnx"), {}), (Path("b.onnx"), SHAPES)]
    tasks = list(itertools.islice(compute_tasks(models, "pi", 2), 4))
    assert [launch_of(task) for task in tasks] == ["a/0", "b/0", "a/1", "b/1"]
    assert {(task.device, task.threads) for task in tasks} == {("pi", 2)}
    assert tasks[1].shapes == SHAPES


def test_layers_are_collected_and_not_again(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    words = ["trace", "--kind", "compute", "--output", str(folder), "--model", str(model), "--shape", "image=1x1x8x8"]
    words += ["--device", "here", "--samples", "3"]
    for _ in range(2):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    samples = list(read_traces([folder], ComputeSample).samples())
    assert len(samples) >= 6
    assert {sample.device for sample in samples} == {"here"}
    assert len({sample.launch for sample in samples}) >= 2
    assert all(sample.rates.dense_flops_per_second > 0 for sample in samples)


@pytest.mark.parametrize(("kind", "missing"), [("compute", "--model"), ("exchange", "--cluster"), ("all", "--cluster")])
def test_what_a_kind_needs_is_asked_for(kind: str, missing: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["trace", "--kind", kind, "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert missing in result.output
