"""A short run of chaos: what `make chaos` does for ten minutes (docs/chaos.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos.running import Settings, run
from flexpie.testbed.records import Records
from tests.testbed.hosts import remains

pytestmark = [pytest.mark.testbed, pytest.mark.timeout(400)]

SECONDS = 12.0


def test_no_request_is_lost_or_answered_wrongly_whatever_fails(tmp_path: Path, records: Records) -> None:
    said: list[str] = []
    found = run(Settings(seed=2, seconds=SECONDS, processes=1), tmp_path, said.append, records)
    assert found.verdict.violations == ()
    assert len(found.events) >= 3
    assert found.verdict.requests >= 8, "each client asked"
    assert not remains(found.run_id)
