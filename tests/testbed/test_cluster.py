"""A real master and real workers on emulated devices."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import flexpie_models
from flexpie import testbed
from flexpie.testbed.processes import HostProcess
from tests.testbed import ask_digits
from tests.testbed.conftest import MakeTestbed

pytestmark = pytest.mark.testbed

IMAGES = 8
SECONDS = 90.0


@pytest.fixture(scope="module")
def bed(make: MakeTestbed) -> Iterator[testbed.Testbed]:
    with make(testbed.uniform(3, 0.2)) as running:
        yield running


@pytest.fixture(scope="module")
def labels(bed: testbed.Testbed) -> list[int]:
    """Of the images that `ask` shows."""
    images, labels = flexpie_models.held_out_digits()
    np.save(bed.folder / "images.npy", images[:IMAGES])
    return [int(label) for label in labels[:IMAGES]]


@pytest.fixture(scope="module")
def master(bed: testbed.Testbed) -> HostProcess:
    onnx.save(flexpie_models.load_digits_model(), str(bed.folder / "digits.onnx"))
    model = f"- {{path: digits.onnx, scheme: InH, input_shapes: {{image: [{IMAGES}, 1, 8, 8]}}}}"
    bed.write_cluster_file(f"models:\n{model}\n")
    return bed.run_master("--startup-grace", "30")


def _ask(bed: testbed.Testbed, master: HostProcess) -> dict[str, Any]:
    arguments = [master.address(), "digits", str(bed.folder / "images.npy")]
    client = bed.start(testbed.MASTER, [sys.executable, ask_digits.__file__, *arguments], "client")
    code = client.wait(SECONDS)
    assert code == 0, client.log + master.log
    answer: dict[str, Any] = json.loads(client.log)
    return answer


def test_digits_are_read_by_all_and_after_a_worker_died_by_those_that_are_left(
    bed: testbed.Testbed, master: HostProcess, labels: list[int]
) -> None:
    answer = _ask(bed, master)
    assert answer == {"classes": labels, "devices": ["d0", "d1", "d2"]}
    bed.faults.kill("d1")
    assert not bed.device("d1").worker.alive()
    assert _ask(bed, master) == {"classes": labels, "devices": ["d0", "d2"]}
    bed.restart_worker("d1")
    assert bed.device("d1").worker.alive()
    assert _ask(bed, master)["classes"] == labels


def test_a_stopped_worker_goes_on(bed: testbed.Testbed, master: HostProcess, labels: list[int]) -> None:
    bed.faults.stop("d0")
    bed.faults.resume("d0")
    assert _ask(bed, master)["classes"] == labels


def test_the_master_runs_outside_of_every_quota(bed: testbed.Testbed, master: HostProcess) -> None:
    def groups(pid: int) -> str:
        return Path(f"/proc/{pid}/cgroup").read_text()

    assert f"flexpie-{bed.run_id}/d2" in groups(bed.device("d2").pid)
    assert f"flexpie-{bed.run_id}" not in groups(master.pid)
