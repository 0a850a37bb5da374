"""A process of its own under a quota, and out of it again."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import os
from contextlib import closing
from pathlib import Path
from flexpie.testbed.cpu import find_cpu_controller, usable_cores
from flexpie.testbed.share import OwnShare

controller = find_cpu_controller(Path("/proc/mounts").read_text())
def cores():
    return usable_cores(controller, Path("/proc/self/cgroup").read_text(), affinity=1)
before = set(controller.root.iterdir())
with closing(OwnShare(0.25)) as share:
    print(cores())
    for _ in range(2):
        with share:
            print(cores())
        print(cores())
print(set(controller.root.iterdir()) == before)
"""


def test_a_process_is_under_its_quota_only_while_it_wants_to() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["1.0", "0.25", "1.0", "0.25", "1.0", "True"], done.stderr
