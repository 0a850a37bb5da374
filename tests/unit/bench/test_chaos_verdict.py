"""When a run kept the promise, and what its report says."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos.records import (
    ANSWERED,
    HANGING,
    UNTYPED,
    WRONG,
    Afterwards,
    Event,
    Request,
    read_requests,
    write_requests,
)
from bench.chaos.verdict import Felt, judge

LATEST = 12.0
WELL = Afterwards(0.5, {"d0": "connected"}, {"master": 0, "d0": 0}, 16, 16)
ANSWER = Request(0, "digits", 1.0, 1.2, ANSWERED)
REFUSAL = Request(1, "digits", 2.0, 2.1, "DEVICE_UNREACHABLE", "d0 does not answer.")
KILL = Event("kill -9", "kill -9: d0", "d0", "", 1.1, 3.0)


def test_answers_and_clear_refusals_are_no_violation() -> None:
    verdict = judge([ANSWER, REFUSAL], [KILL], WELL, [], LATEST)
    assert verdict.passed
    assert verdict.outcomes == {ANSWERED: 1, "DEVICE_UNREACHABLE": 1}
    (felt,) = verdict.felt
    assert felt == Felt("kill -9", 1, felt.median_seconds, felt.worst_seconds, 1)
    assert (felt.median_seconds, felt.worst_seconds) == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(0, "digits", 5.0, 5.1, WRONG, "differs by 0.5"), "1 wrong answers, the first at 5.0 s. differs by"),
        (Request(0, "digits", 5.0, 17.0, HANGING), "1 requests without an end"),
        (Request(0, "digits", 5.0, 5.1, UNTYPED, "KeyError: 1"), "1 untyped errors, the first at 5.0 s. KeyError: 1"),
        (Request(0, "digits", 5.0, 5.1, "INTERNAL", "KeyError"), "1 requests failed with INTERNAL, the first at 5.0 s"),
        (Request(0, "digits", 5.0, 18.0, "CANCELLED"), "1 requests ended late, the worst after 13.0 s"),
    ],
)
def test_a_request_that_ends_badly_fails_the_run(request_: Request, expected: str) -> None:
    verdict = judge([ANSWER, request_], [], WELL, [], LATEST)
    assert not verdict.passed
    (violation,) = verdict.violations
    assert violation.startswith(expected)


@pytest.mark.parametrize(
    ("afterwards", "expected"),
    [
        (None, "Nobody answered when all faults were mended."),
        (dataclasses.replace(WELL, recovered_seconds=None), "Not all was well again in time: d0 connected."),
        (dataclasses.replace(WELL, right_answers=15), "1 of the last 16 requests were not answered rightly."),
        (dataclasses.replace(WELL, in_flight={"master": 0, "d0": 2}), "Requests are left: 2 on d0."),
    ],
)
def test_what_is_left_afterwards_fails_the_run(afterwards: Afterwards | None, expected: str) -> None:
    assert judge([ANSWER], [], afterwards, [], LATEST).violations == (expected,)


def test_a_crash_and_a_run_without_answers_fail() -> None:
    assert judge([ANSWER], [], WELL, ["d0 ended by itself."], LATEST).violations == ("d0 ended by itself.",)
    assert judge([REFUSAL], [], WELL, [], LATEST).violations == ("No request was answered.",)


def test_requests_are_written_and_read(tmp_path: Path) -> None:
    write_requests(tmp_path / "requests", [ANSWER, REFUSAL])
    assert list(read_requests(tmp_path / "requests")) == [ANSWER, REFUSAL]


def test_the_report_has_the_verdict_the_faults_and_a_picture(tmp_path: Path) -> None:
    # In a process of its own: matplotlib keeps its fonts open.
    subprocess.run([sys.executable, "-c", _WRITE, str(tmp_path)], check=True)
    text = (tmp_path / "report.md").read_text()
    assert "**FAILED**" in text
    assert "- d0 ended by itself." in text
    assert "| DEVICE_UNREACHABLE | 1 |" in text
    assert "| kill -9 | 1 | 0.20 s | 0.20 s | 1 |" in text
    assert "| 1.1 s | 3.0 s | kill -9: d0 |" in text
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["passed"] is False
    assert content["events"][0]["text"] == "kill -9: d0"
    assert "<svg" in (tmp_path / "timeline.svg").read_text()


_WRITE = """
import sys
from pathlib import Path
from bench.chaos.report import write_report
from bench.chaos.verdict import judge
from tests.unit.bench.test_chaos_verdict import ANSWER, KILL, LATEST, REFUSAL, WELL
verdict = judge([ANSWER, REFUSAL], [KILL], WELL, ["d0 ended by itself."], LATEST)
write_report(Path(sys.argv[1]), "python -m bench.chaos", verdict, [ANSWER, REFUSAL], [KILL], WELL, ["d0", "master"])
"""
