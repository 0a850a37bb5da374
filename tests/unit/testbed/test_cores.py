"""Which core each emulated device runs on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flexpie.testbed.cores import cores_for, pin


@pytest.mark.parametrize(
    ("shares", "cores", "expected"),
    [
        ((0.2,) * 4, (0, 1), [0, 1, 0, 1]),
        ((0.1, 0.5, 0.4), (3, 7), [7, 3, 7]),
        ((0.2,), (5,), [5]),
        ((2.0, 0.3), (0, 1, 2, 3), [None, 0]),
        ((0.6,) * 5, (0, 1, 2, 3), [None] * 5),
        ((), (0, 1), []),
    ],
)
def test_devices_are_spread_over_the_cores(
    shares: tuple[float, ...], cores: tuple[int, ...], expected: list[int | None]
) -> None:
    assert cores_for(shares, cores) == expected


def test_a_pinned_process_keeps_to_its_core() -> None:
    core = max(os.sched_getaffinity(0))
    code = "import os; input(); print(os.sched_getaffinity(0))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pin(process.pid, core)
        found, _ = process.communicate(b"\n")
    assert found.decode().strip() == str({core})
