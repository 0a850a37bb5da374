"""Cables that are cut, in one direction or both, and a host that is unplugged: planned around, and used again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

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
    with make(testbed.uniform(3, 0.3)) as running:
        onnx.save(flexpie_models.load_digits_model(), str(running.folder / "digits.onnx"))
        model = f"- {{path: digits.onnx, scheme: InH, input_shapes: {{image: [{IMAGES}, 1, 8, 8]}}}}"
        running.write_cluster_file(f"models:\n{model}\n")
        yield running


@pytest.fixture(scope="module")
def labels(bed: testbed.Testbed) -> list[int]:
    """Of the images that `_ask` shows."""
    images, labels = flexpie_models.held_out_digits()
    np.save(bed.folder / "images.npy", images[:IMAGES])
    return [int(label) for label in labels[:IMAGES]]


@pytest.fixture(scope="module")
def master(bed: testbed.Testbed) -> HostProcess:
    return bed.run_master("--startup-grace", "30", "--dead-after", "2", "--no-standby")


def _ask(bed: testbed.Testbed, master: HostProcess, labels: list[int]) -> list[str]:
    """The devices that a model runs on which has just answered rightly."""
    arguments = [master.address(), "digits", str(bed.folder / "images.npy")]
    client = bed.start(testbed.MASTER, [sys.executable, ask_digits.__file__, *arguments], "client")
    code = client.wait(SECONDS)
    assert code == 0, client.log + master.log
    answer = json.loads(client.log)
    assert answer["classes"] == labels
    devices: list[str] = answer["devices"]
    return devices


def _wait_until(condition: Callable[[], bool], what: str, master: HostProcess) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: {master.log}"
        time.sleep(0.05)


@pytest.mark.parametrize("one_way", [False, True])
def test_a_link_that_is_cut_is_relayed_around_and_used_again(
    bed: testbed.Testbed, master: HostProcess, labels: list[int], one_way: bool
) -> None:
    assert _ask(bed, master, labels) == ["d0", "d1", "d2"]
    checked, ready = master.log.count("link works again"), master.log.count("deployment ready")
    if one_way:
        bed.faults.cut_one_way("d0", "d1")
    else:
        bed.faults.cut("d0", "d1")
    assert _ask(bed, master, labels)  # by one device, maybe, until there is another plan
    # Digits divided by rows is exchanged between d0 and d1; d2, which reaches both, passes it on.
    _wait_until(lambda: master.log.count("deployment ready") > ready, "planned around the link", master)
    _wait_until(lambda: _ask(bed, master, labels) == ["d0", "d1", "d2"], "all take part again", master)
    assert "device unreachable" not in master.log
    bed.faults.restore()
    _wait_until(lambda: master.log.count("link works again") > checked, "the link is used again", master)
    _wait_until(lambda: _ask(bed, master, labels) == ["d0", "d1", "d2"], "all take part", master)


def test_a_host_without_a_cable_is_planned_around_and_planned_in_again(
    bed: testbed.Testbed, master: HostProcess, labels: list[int]
) -> None:
    bed.faults.unplug("d2")
    assert "d2" not in _ask(bed, master, labels)
    _wait_until(lambda: _ask(bed, master, labels) == ["d0", "d1"], "planned around d2", master)
    assert "device unreachable device=d2" in master.log
    bed.faults.restore()
    _wait_until(lambda: master.log.count("device connected device=d2") == 2, "d2 is there again", master)
    _wait_until(lambda: _ask(bed, master, labels) == ["d0", "d1", "d2"], "d2 is planned in again", master)
