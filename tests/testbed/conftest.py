"""Testbeds for tests: what is measured on them does not matter, so that any machine and any other load will do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from flexpie import testbed
from flexpie.testbed.records import Records

MakeTestbed = Callable[..., testbed.Testbed]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Notes that no other test, and nobody else on this machine, sees."""
    return Records(Path(tmp_path_factory.mktemp("testbeds")))


@pytest.fixture(scope="module")
def make(records: Records) -> MakeTestbed:
    """Describes a testbed; a `with` block starts it."""
    return partial(testbed.Testbed, overload=True, records=records)
