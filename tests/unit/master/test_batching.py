"""Requests gather into batches: in order, none lost, none held for longer than it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flexpie.master.batching import CAUTION, FIRST_GUESS_SECONDS, Batch, Batcher

WAIT = 1.0
LATE = 1000.0


def _sizes(kind: int) -> Sequence[int]:
    return (1, 2, 4) if kind < 2 else (1,)


def test_requests_gather_until_the_first_has_waited_enough() -> None:
    batcher = Batcher(WAIT, runs=1)
    for ticket in range(3):
        batcher.arrive(ticket, 0, LATE, now=ticket * 0.25)
        assert batcher.start(ticket * 0.25, _sizes) == []
    assert batcher.wake_at() == WAIT
    assert batcher.start(WAIT, _sizes) == [Batch(0, (0, 1))]
    assert batcher.wake_at() is None, "the run is taken"


def test_a_full_batch_waits_for_nothing() -> None:
    batcher = Batcher(WAIT, runs=2)
    for ticket in range(5):
        batcher.arrive(ticket, 0, LATE, now=0.0)
    assert batcher.start(0.0, _sizes) == [Batch(0, (0, 1, 2, 3))]
    assert len(batcher) == 1


def test_a_kind_that_cannot_be_gathered_waits_for_nothing() -> None:
    batcher = Batcher(WAIT, runs=2)
    batcher.arrive(0, 2, LATE, now=0.0)
    assert batcher.start(0.0, _sizes) == [Batch(2, (0,))]


def test_while_all_runs_are_taken_requests_gather_for_as_long() -> None:
    batcher = Batcher(WAIT, runs=1)
    batcher.arrive(0, 2, LATE, now=0.0)
    batcher.start(0.0, _sizes)
    for ticket in range(1, 8):
        batcher.arrive(ticket, 0, LATE, now=0.0)
    assert batcher.start(10 * WAIT, _sizes) == []
    started = []
    for _ in range(3):
        batcher.ended(0, 1.0)
        started += [len(batch.tickets) for batch in batcher.start(10 * WAIT, _sizes)]
    assert started == [4, 2, 1]


def test_a_request_with_little_time_is_not_held() -> None:
    batcher = Batcher(WAIT, runs=1)
    enough = WAIT + CAUTION * FIRST_GUESS_SECONDS
    batcher.arrive(0, 0, deadline=enough + 0.01, now=0.0)
    assert batcher.start(0.0, _sizes) == []
    batcher.arrive(1, 0, deadline=enough - 0.01, now=0.0)
    assert batcher.start(0.0, _sizes) == [Batch(0, (0, 1))]


def test_what_runs_take_is_learned() -> None:
    batcher = Batcher(WAIT, runs=1)
    batcher.arrive(0, 2, LATE, now=0.0)
    batcher.start(0.0, _sizes)
    batcher.ended(2, 3.0)
    for ticket, deadline, wake_at in ((1, 7.0 + WAIT + 9.1, 7.0 + WAIT), (2, 7.0 + WAIT + 8.9, 7.0)):
        batcher.arrive(ticket, 2, deadline, now=7.0)
        assert batcher.wake_at() == wake_at


def test_a_request_that_leaves_is_not_run() -> None:
    batcher = Batcher(WAIT, runs=1)
    for ticket in range(3):
        batcher.arrive(ticket, 0, LATE, now=0.0)
    batcher.leave(1)
    assert batcher.start(WAIT, _sizes) == [Batch(0, (0, 2))]
    batcher.leave(0)
    assert len(batcher) == 0


@dataclass
class _Came:
    kind: int
    at: float
    deadline: float


class Batching(RuleBasedStateMachine):
    """Requests of three kinds come, leave, and are run; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher(WAIT, runs=2)
        self.now = 0.0
        self.waiting: dict[int, _Came] = {}
        self.running: list[Batch] = []
        self.tickets = 0

    @rule(kind=st.integers(0, 2), time_left=st.floats(0.0, 5.0))
    def arrive(self, kind: int, time_left: float) -> None:
        self.waiting[self.tickets] = _Came(kind, self.now, self.now + time_left)
        self.batcher.arrive(self.tickets, kind, self.now + time_left, self.now)
        self.tickets += 1
        self.start()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.waiting:
            ticket = data.draw(st.sampled_from(sorted(self.waiting)))
            del self.waiting[ticket]
            self.batcher.leave(ticket)
        self.start()

    @rule(seconds=st.floats(0.0, 2.0))
    def end_a_run(self, seconds: float) -> None:
        if self.running:
            self.batcher.ended(self.running.pop(0).kind, seconds)
        self.start()

    @rule(seconds=st.floats(0.0, 2.0))
    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (wake_at := self.batcher.wake_at()) is not None and wake_at <= until:
            self.now = max(self.now, wake_at)
            self.start()
        self.now = until

    def start(self) -> None:
        for batch in self.batcher.start(self.now, _sizes):
            assert len(batch.tickets) in _sizes(batch.kind)
            of_kind = [ticket for ticket, came in self.waiting.items() if came.kind == batch.kind]
            assert list(batch.tickets) == of_kind[: len(batch.tickets)], "in order, of one kind, and none twice"
            for ticket in batch.tickets:
                del self.waiting[ticket]
            self.running.append(batch)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.batcher) == len(self.waiting)

    @invariant()
    def runs_are_bounded(self) -> None:
        assert len(self.running) <= 2

    @invariant()
    def nobody_is_held_too_long(self) -> None:
        if len(self.running) < 2:
            for came in self.waiting.values():
                assert self.now <= min(came.at + WAIT, max(came.at, came.deadline))
                assert _sizes(came.kind) != (1,)


TestBatching = Batching.TestCase
TestBatching.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
