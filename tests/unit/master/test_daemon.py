"""An end of the master's process that real models are too quick for."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.daemons import Daemon, wait_until


def test_a_plan_under_way_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with Daemon("tests.unit.master.stuck_master", [], tmp_path / "log") as master:
        assert master.address
        wait_until(lambda: "importing" in master.stdout, "a model is being imported")
        master.signal(signal.SIGTERM)
        assert master.wait() == 0
