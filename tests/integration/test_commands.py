"""The commands as a user runs them: what they print, and on which stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flexpie_models
from tests.daemons import WAIT_SECONDS, start_master, start_worker, write_cluster_file

VERIFIED = {"model", "devices", "scheme", "segments", "max_abs_error", "max_rel_error", "outputs_equal",
            "unsplit_seconds", "split_seconds"}  # fmt: skip
PLANNED = {"model", "devices", "predicted_seconds", "single_device_seconds", "search_seconds", "segments"}
SEGMENT = {"layers", "scheme", "compute_seconds", "exchange_seconds", "exchange_bytes"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits model, a picture for it, and a cluster file."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "digits.onnx").write_bytes(flexpie_models.load_digits_model().SerializeToString())
    images, _ = flexpie_models.held_out_digits()
    np.save(folder / "digit.npy", images[:1])
    return folder


@pytest.fixture(scope="module")
def master(folder: Path) -> Iterator[str]:
    """The address of a master over two workers."""
    with ExitStack() as stack:
        workers = [stack.enter_context(start_worker(folder, f"worker-{index}")) for index in range(2)]
        file = write_cluster_file(folder, {f"device-{index}": item.address for index, item in enumerate(workers)})
        yield stack.enter_context(start_master(folder, file)).address


def run(folder: Path, *arguments: str, master: str = "") -> subprocess.CompletedProcess[str]:
    """What `flexpie arguments...` does in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "flexpie.cli.main", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False, stdin=subprocess.DEVNULL,
        env=os.environ | ({"FLEXPIE_MASTER": master} if master else {}),
    )  # fmt: skip


def json_of(folder: Path, *arguments: str, master: str = "", code: int = 0) -> Any:
    """The one object that a command prints with ``--json``."""
    done = run(folder, *arguments, "--json", master=master)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_verify(folder: Path) -> None:
    found = json_of(folder, "verify", "digits.onnx", "--shape", "image=2x1x8x8", "--local", "2", "--scheme", "InH",
                    "--runs", "2")  # fmt: skip
    assert found.keys() >= VERIFIED
    assert (found["model"], found["devices"], found["scheme"]) == ("digits", 2, "InH")
    assert found["outputs_equal"] is True
    assert found["max_abs_error"] < 1e-4
    assert found["segments"] > 0


def test_verify_on_the_workers_of_a_cluster_file(folder: Path, master: str) -> None:
    found = json_of(folder, "verify", "digits.onnx", "--shape", "image=1x1x8x8", "--cluster", "cluster.yaml")
    assert found["outputs_equal"] is True


def test_verify_tells_which_device_took_no_part(folder: Path, master: str) -> None:
    text = (folder / "cluster.yaml").read_text() + "  - {name: absent, address: '127.0.0.1:1'}\n"
    (folder / "absent.yaml").write_text(text)
    done = run(folder, "verify", "digits.onnx", "--shape", "image=1x1x8x8", "--cluster", "absent.yaml")
    assert done.returncode == 0, done.stderr
    assert "without absent, which is unreachable" in done.stderr
    assert "device-0" not in done.stderr


def test_plan(folder: Path, master: str) -> None:
    shape = ("--shape", "image=64x1x8x8", "--cluster", "cluster.yaml")
    found = json_of(folder, "plan", "digits.onnx", *shape)
    assert found.keys() >= PLANNED
    assert all(segment.keys() >= SEGMENT for segment in found["segments"])
    assert found["predicted_seconds"] <= found["single_device_seconds"]
    shown = run(folder, "plan", "digits.onnx", *shape)
    assert f"Predicted: {found['predicted_seconds'] * 1e3:.1f} ms" in shown.stdout
    assert found["reason"] in shown.stdout.replace("\n", " ")


def test_a_model_from_load_to_unload(folder: Path, master: str) -> None:
    loaded = json_of(folder, "load", "digits.onnx", "--shape", "image=1x1x8x8", "--name", "read", master=master)
    assert (loaded["name"], loaded["state"]) == ("read", "ready")
    answer = json_of(folder, "infer", "read", "digit.npy", master=master)
    assert answer["outputs"]["probabilities"]["shape"] == [1, 10]
    status = json_of(folder, "status", master=master)
    assert [model["name"] for model in status["models"]] == ["read"]
    assert status["requests_done"] == 1
    assert "read" in run(folder, "status", master=master).stdout
    assert json_of(folder, "unload", "read", master=master) == {"name": "read", "state": "unloaded"}


def test_nan_passes_through_and_is_null_in_json(folder: Path, master: str) -> None:
    np.save(folder / "nan.npy", np.full((1, 1, 8, 8), np.nan, np.float32))
    json_of(folder, "load", "digits.onnx", "--shape", "image=1x1x8x8", "--name", "nan", master=master)
    answer = json_of(folder, "infer", "nan", "nan.npy", master=master)
    assert {value for _, value in answer["outputs"]["probabilities"]["top"]} == {None}
    run(folder, "unload", "nan", master=master)


def test_models(folder: Path) -> None:
    names = [model["name"] for model in json_of(folder, "models", "list")["models"]]
    assert {"digits", "mobilenet_v1", "resnet18", "resnet101", "bert_base"} <= set(names)
    built = json_of(folder, "models", "build", "mobilenet_v1", "-o", "built.onnx")
    assert (folder / "built.onnx").stat().st_size == built["bytes"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["status"], 3, "DEVICE_UNREACHABLE"),
        (["status", "--master", "here"], 3, "'here' is no address"),
        (["health", "127.0.0.1:1"], 1, "unreachable: 127.0.0.1:1 does not answer"),
        (["health", ""], 3, "'' is no address"),
        (["load", "none.onnx"], 3, "none.onnx cannot be read"),
        (["plan", "none.onnx", "--cluster", "cluster.yaml"], 3, "There is no file none.onnx"),
        (["plan", "digits.onnx", "--cluster", "none.yaml"], 3, "INVALID_CLUSTER"),
        (["verify", "digits.onnx", "--cluster", "none.yaml"], 3, "INVALID_CLUSTER"),
        (["verify", "digits.onnx", "--local", "1"], 3, "open dimensions"),
        (["verify", "digits.onnx"], 2, "either --local N or --cluster FILE"),
        (["models", "build", "none"], 3, "no example model 'none'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_failures_are_words_on_stderr(folder: Path, master: str, arguments: list[str], code: int, text: str) -> None:
    done = run(folder, *arguments, master="127.0.0.1:1")
    assert done.returncode == code
    assert text in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["empty.npy", "empty.npz", "text.npy", "text.npz", "text.png"])
def test_inputs_that_cannot_be_read(folder: Path, master: str, file: str) -> None:
    (folder / file).write_text("" if file.startswith("empty") else "no array")
    json_of(folder, "load", "digits.onnx", "--shape", "image=1x1x8x8", "--name", file, master=master)
    done = run(folder, "infer", file, file, master=master)
    run(folder, "unload", file, master=master)
    assert done.returncode == 3
    assert done.stderr.startswith("error [INVALID_INPUT]: ")
    assert file in done.stderr


@pytest.mark.timeout(240)
def test_demo(folder: Path) -> None:
    found = json_of(folder, "demo", "--workers", "2")
    assert found["photograph"]["outputs_equal"] is True
    assert found["photograph"]["top_classes_split"] == found["photograph"]["top_classes_unsplit"]
    assert found["digits"]["same_classes"] == found["digits"]["images"] == 360
    assert found["digits"]["accuracy_split"] > 0.95
