"""Rules for every test: how hard hypothesis tries, which tests run where, and that nothing is left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import onnxruntime
import psutil
import pytest
from hypothesis import settings

from tests.leaks import Snapshot, leaked_since, take_snapshot

LONG = os.environ.get("FLEXPIE_LONG") == "1"
RECENT_ONNXRUNTIME = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 24)
"""Python 3.10 has none of these: some operators of the newest sets are missing or wrong in its last one."""

# `make test` tries the same examples each time, so that it fails because of a change, not by chance; `make test-long`
# tries others, and many more. The deadline of one example says more about the machine than about the code;
# pytest-timeout bounds the test.
settings.register_profile("short", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("long" if LONG else "short")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that this run or this machine cannot do."""
    skips = {"slow": _why_not_slow(), "testbed": _why_no_testbed(), "recent_onnxruntime": _why_not_recent()}
    for item in items:
        for marker, reason in skips.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_not_slow() -> str | None:
    return None if LONG else "slow: set FLEXPIE_LONG=1, or use make test-long"


def _why_not_recent() -> str | None:
    return None if RECENT_ONNXRUNTIME else "recent_onnxruntime: needs onnxruntime 1.24 or newer"


def _why_no_testbed() -> str | None:
    return None if sys.platform == "linux" and os.geteuid() == 0 else "testbed: needs root on Linux"


class _RunCounter:
    """Turns a run in which no test ran (none found, or all skipped) into a failure."""

    def __init__(self) -> None:
        self.ran = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call" and not report.skipped

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and not self.ran and not session.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_RunCounter())


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What a command sets for its own process is not handed on to the processes of later tests."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session", autouse=True)
def _untouched() -> Iterator[Snapshot]:
    """What the process held before the first test; nothing more may be left after the last."""
    before = take_snapshot()
    yield before
    _fail_on_leak(before, "the whole run")


@pytest.fixture(scope="module", autouse=True)
def _no_leaks_by_module(request: pytest.FixtureRequest, _untouched: Snapshot) -> Iterator[None]:
    yield from _no_leaks(_untouched, f"module {request.node.nodeid}")


@pytest.fixture(autouse=True)
def _no_leaks_by_test(request: pytest.FixtureRequest, _untouched: Snapshot) -> Iterator[None]:
    yield from _no_leaks(_untouched, f"test {request.node.nodeid}")


def _no_leaks(untouched: Snapshot, culprit: str) -> Iterator[None]:
    """Fails when more is held afterwards than before.

    A system that a wider fixture runs opens connections and threads whenever it likes, so with one alive
    nothing can be said about a single test or module: the check at the end of that fixture's scope decides.
    """
    before = take_snapshot()
    yield
    if not before - untouched:
        _fail_on_leak(before, culprit)


def _fail_on_leak(before: Snapshot, culprit: str) -> None:
    leaked = leaked_since(before)
    lines = leaked.describe()
    for child in leaked.children:
        with suppress(psutil.Error):
            child.kill()
            child.wait()
    if lines:
        pytest.fail("\n  ".join([f"{culprit} left behind:", *lines]), pytrace=False)
