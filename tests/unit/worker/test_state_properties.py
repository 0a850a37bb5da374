"""Whatever comes in whatever order: requests end once, one batch is out at a time, nothing is left behind."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.errors import ErrorCode
from flexpie.core.program import MASTER, Receive, Send
from flexpie.wire.framing import Failure
from flexpie.worker.deployment import Limits
from flexpie.worker.events import (
    BatchExecuted,
    CancelArrived,
    DeploymentBuilt,
    DeployRequested,
    EndRequest,
    Event,
    Execute,
    ExecutionFailed,
    FailureArrived,
    FrameArrived,
    MasterConnected,
    MasterLost,
    Outcome,
    PeerLost,
    RequestKey,
    SendFailure,
    SendFrame,
    TimePassed,
    UndeployRequested,
)
from flexpie.worker.state import WorkerState
from tests.worker_programs import device_program

PROGRAM = device_program(0)
PAYLOADS = {0: np.zeros(4, np.float32).tobytes(), 1: np.zeros(1, np.float32).tobytes()}
BROKEN = Failure(ErrorCode.EXECUTION_FAILED, "no")

keys = st.integers(1, 4).map(lambda number: RequestKey("d", number))


def frame(key: RequestKey, exchange: int) -> FrameArrived:
    return FrameArrived(key, exchange, MASTER if exchange == 0 else 1, PAYLOADS[exchange], 10.0 * key.request_id, 0.0)


noise: st.SearchStrategy[Event] = st.one_of(
    st.builds(frame, keys, st.integers(0, 1)),
    st.builds(frame, keys, st.integers(0, 1)),
    st.builds(CancelArrived, keys, st.just("enough")),
    st.builds(FailureArrived, keys, st.just(BROKEN)),
    st.builds(PeerLost, st.just("d"), st.integers(0, 2), st.booleans()),
    st.builds(TimePassed, st.integers(0, 50).map(float)),
    st.builds(MasterLost, st.just(""), st.integers(0, 50).map(float)),
    st.builds(MasterConnected, st.just("")),
    st.builds(UndeployRequested, st.just("d")),
)
ticks = st.sampled_from(["compute", "fail to compute"])


class Observed:
    """A state, with what it ordered so far."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.state = WorkerState(limits or Limits())
        self.out: Execute | None = None
        self.ends: Counter[RequestKey] = Counter()
        self.outcomes: dict[RequestKey, Outcome] = {}
        self.known: set[RequestKey] = set()
        self.sent: Counter[RequestKey] = Counter()
        self.handle(DeployRequested("d", PROGRAM))
        self.handle(DeploymentBuilt("d"))

    def handle(self, event: Event) -> None:
        if isinstance(event, BatchExecuted | ExecutionFailed):
            self.out = None
        before = set(self.state.requests)
        failures = 0
        for instruction in self.state.handle(event):
            match instruction:
                case Execute():
                    assert self.out is None
                    assert len(instruction.payloads) == sum(isinstance(step, Receive) for step in instruction.steps)
                    assert not any(isinstance(step, Send) for step in instruction.steps)
                    self.out = instruction
                case EndRequest(key, outcome):
                    self.ends[key] += 1
                    self.outcomes[key] = outcome
                    failures -= outcome in (Outcome.FAILED, Outcome.DEADLINE_PASSED)
                case SendFailure():
                    failures += 1
                case SendFrame(key):
                    self.sent[key] += 1
        assert failures == 0
        self.known |= before | set(self.state.requests) | set(self.ends)
        self.check()

    def compute(self, fails: bool = False) -> None:
        if self.out is not None:
            key = self.out.key
            self.handle(ExecutionFailed(key, BROKEN) if fails else BatchExecuted(key, 0.0))

    def check(self) -> None:
        state = self.state
        assert max(self.ends.values(), default=1) == 1
        assert not set(self.ends) & set(state.requests)
        assert self.known == set(self.ends) | set(state.requests)
        assert state.computing == (self.out.key if self.out else None)
        assert state.buffered_bytes == sum(request.buffered_bytes for request in state.requests.values())
        taken = sum(state.deployments[key.deployment_id].request_bytes for key in state.requests)
        assert state.held_bytes == taken
        assert state._waiting <= set(state.requests)
        assert all(request.position <= len(PROGRAM.steps) for request in state.requests.values())


@given(st.lists(st.one_of(noise, ticks), max_size=60))
def test_requests_end_once_whatever_happens(happenings: list[Event | str]) -> None:
    observed = Observed()
    for happening in happenings:
        if isinstance(happening, str):
            observed.compute(fails=happening == "fail to compute")
        else:
            observed.handle(happening)
    while observed.out is not None:
        observed.compute()
    observed.handle(TimePassed(1000.0))
    assert not observed.state.requests
    assert observed.state.buffered_bytes == 0
    assert observed.state.held_bytes == 0
    assert set(observed.ends) == observed.known


@given(st.permutations([frame(RequestKey("d", n), e) for n in range(1, 6) for e in (0, 1)]), st.lists(st.booleans()))
def test_complete_requests_finish_in_any_order_of_arrival(frames: list[FrameArrived], computes: list[bool]) -> None:
    observed = Observed()
    for index, arrived in enumerate(frames):
        observed.handle(arrived)
        if index < len(computes) and computes[index]:
            observed.compute()
    while observed.out is not None:
        observed.compute()
    assert set(observed.outcomes) == {RequestKey("d", n) for n in range(1, 6)}
    assert set(observed.outcomes.values()) == {Outcome.FINISHED}
    assert set(observed.sent.values()) == {2}


@given(st.lists(st.builds(frame, st.integers(1, 20).map(lambda n: RequestKey("d", n)), st.just(1)), max_size=40))
def test_bounds_hold(frames: list[FrameArrived]) -> None:
    observed = Observed(Limits(requests=5, buffered_bytes=13))
    for arrived in frames:
        observed.handle(arrived)
        assert len(observed.state.requests) <= 5
        assert observed.state.buffered_bytes <= 13
