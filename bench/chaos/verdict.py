"""Whether a run kept the promise: every request answered rightly, or refused with a clear error in time."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.chaos.records import ANSWERED, HANGING, UNTYPED, WRONG, Afterwards, Event, Request

EXCUSED = frozenset({
    "CANCELLED", "DEADLINE_EXCEEDED", "DEVICE_UNREACHABLE", "MODEL_NOT_READY", "OUT_OF_MEMORY", "OVERLOADED",
    "SHUTTING_DOWN",
})  # fmt: skip
"""What a request may fail with because of a fault. Every other code says that something else went wrong."""
AFTER_SECONDS = 1.0
"""A request that begins so long after a fault still feels it."""


@dataclass(frozen=True)
class Felt:
    """What clients felt of one kind of fault."""

    kind: str
    count: int
    median_seconds: float
    """Of the longest request that each fault met."""
    worst_seconds: float
    errors: int
    """Requests that failed while there was such a fault; other faults may have been there as well."""


@dataclass(frozen=True)
class Verdict:
    """The figures of a run."""

    requests: int
    outcomes: dict[str, int]
    violations: tuple[str, ...]
    """Why the run failed, in one line each; none when it did not."""
    felt: tuple[Felt, ...]
    median_seconds: float
    """Of the answered requests, as is `worst_seconds`."""
    worst_seconds: float

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        return not self.violations


def judge(
    requests: Sequence[Request],
    events: Sequence[Event],
    afterwards: Afterwards | None,
    crashes: Sequence[str],
    latest_seconds: float,
) -> Verdict:
    """Look at all that happened.

    Parameters
    ----------
    afterwards: None when nobody could be asked any more.
    crashes: lines about daemons that ended though nobody killed them, or that logged a defect.
    latest_seconds: what a request may take at most: its deadline with some grace.
    """
    outcomes = Counter(request.outcome for request in requests)
    answered = [request.seconds for request in requests if request.outcome == ANSWERED]
    return Verdict(
        len(requests),
        dict(outcomes.most_common()),
        (*_wrong_requests(requests, latest_seconds), *_wrong_afterwards(afterwards), *crashes),
        tuple(_felt(kind, events, requests) for kind in sorted({event.kind for event in events})),
        statistics.median(answered) if answered else 0.0,
        max(answered, default=0.0),
    )


def _wrong_requests(requests: Sequence[Request], latest_seconds: float) -> list[str]:
    found = []
    for outcome, what in ((WRONG, "wrong answers"), (HANGING, "requests without an end"), (UNTYPED, "untyped errors")):
        if those := [request for request in requests if request.outcome == outcome]:
            found.append(f"{len(those)} {what}, the first at {those[0].started:.1f} s. {those[0].message}".strip())
    known = {ANSWERED, WRONG, HANGING, UNTYPED} | EXCUSED
    for code in sorted({request.outcome for request in requests} - known):
        those = [request for request in requests if request.outcome == code]
        found.append(f"{len(those)} requests failed with {code}, the first at {those[0].started:.1f} s: "
                     f"{those[0].message}")  # fmt: skip
    if late := [request for request in requests if request.outcome != HANGING and request.seconds > latest_seconds]:
        found.append(f"{len(late)} requests ended late, the worst after {max(item.seconds for item in late):.1f} s.")
    if not any(request.outcome == ANSWERED for request in requests):
        found.append("No request was answered.")
    return found


def _wrong_afterwards(afterwards: Afterwards | None) -> list[str]:
    if afterwards is None:
        return ["Nobody answered when all faults were mended."]
    found = []
    if afterwards.recovered_seconds is None:
        states = ", ".join(f"{name} {state}" for name, state in afterwards.states.items())
        found.append(f"Not all was well again in time: {states or 'no master'}.")
    if afterwards.right_answers != afterwards.last_requests:
        found.append(f"{afterwards.last_requests - afterwards.right_answers} of the last {afterwards.last_requests} "
                     "requests were not answered rightly.")  # fmt: skip
    if held := {name: count for name, count in afterwards.in_flight.items() if count}:
        found.append(f"Requests are left: {', '.join(f'{count} on {name}' for name, count in held.items())}.")
    return found


def _felt(kind: str, events: Sequence[Event], requests: Sequence[Request]) -> Felt:
    longest, errors = [], 0
    those = [event for event in events if event.kind == kind]
    for event in those:
        met = [item for item in requests if item.started < event.began + AFTER_SECONDS and item.ended > event.began]
        longest.append(max((item.seconds for item in met), default=0.0))
        errors += sum(item.outcome != ANSWERED for item in requests if event.began <= item.started <= event.mended)
    return Felt(kind, len(those), statistics.median(longest), max(longest), errors)
