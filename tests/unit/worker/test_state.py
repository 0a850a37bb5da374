"""The worker's decisions: events in, exactly these instructions out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie.core.errors import ErrorCode
from flexpie.core.program import MASTER, DeviceProgram, Receive, Release, Run, Send
from flexpie.wire.framing import Failure
from flexpie.worker.deployment import Limits
from flexpie.worker.events import (
    BatchExecuted,
    BuildDeployment,
    CancelArrived,
    ConfirmDeployment,
    DeploymentBuilt,
    DeploymentFailed,
    DeploymentsClaimed,
    DeployRequested,
    DrainStarted,
    EndRequest,
    Execute,
    ExecutionFailed,
    FailureArrived,
    FrameArrived,
    FreeDeployment,
    Instruction,
    Leave,
    MasterConnected,
    MasterLost,
    Outcome,
    PeerLost,
    RefuseDeployment,
    RejectFrame,
    RequestKey,
    RequestStarted,
    SendFailure,
    SendFrame,
    TimePassed,
    UndeployRequested,
)
from flexpie.worker.state import WorkerState
from tests.worker_programs import device_program, master_program, part, value

PROGRAM = device_program(0)
STEPS = PROGRAM.steps
KEY = RequestKey("d", 1)
OTHER = RequestKey("d", 2)
INPUT = np.arange(4, dtype=np.float32).tobytes()
HALO = np.ones(1, np.float32).tobytes()
NAMES = ("anna", "bert")

FIRST_BATCH = Execute(KEY, STEPS[:2], (INPUT,))
SECOND_BATCH = Execute(KEY, (STEPS[3], *STEPS[4:7]), (HALO,))
TO_PEER = SendFrame(KEY, 1, 1, (part(1, 3, 4),), 10.0)
TO_MASTER = SendFrame(KEY, 2, MASTER, (part(4, 0, 3),), 10.0)


def from_master(key: RequestKey = KEY, deadline: float = 10.0, payload: bytes = INPUT) -> FrameArrived:
    return FrameArrived(key, 0, MASTER, payload, deadline, 0.0, origin=7)


def from_peer(key: RequestKey = KEY, payload: bytes = HALO) -> FrameArrived:
    return FrameArrived(key, 1, 1, payload, 10.0, 0.0, origin=8)


def done(key: RequestKey = KEY) -> BatchExecuted:
    return BatchExecuted(key, 0.25)


def ready_state(program: DeviceProgram = PROGRAM, **limits: float) -> WorkerState:
    state = WorkerState(Limits(**limits))  # type: ignore[arg-type]
    state.handle(DeployRequested("d", program, "m", "model", NAMES))
    state.handle(DeploymentBuilt("d"))
    return state


def failed(instructions: list[Instruction]) -> Failure:
    """The failure of the only request that the instructions end."""
    (report, end) = instructions
    assert isinstance(report, SendFailure)
    passed = report.failure.code is ErrorCode.DEADLINE_EXCEEDED
    outcome = Outcome.DEADLINE_PASSED if passed else Outcome.FAILED
    assert end == EndRequest(report.key, outcome, report.failure.message)
    return report.failure


# A request's walk.


def test_a_request_walks_its_program() -> None:
    state = ready_state()
    assert state.handle(from_master()) == [FIRST_BATCH]
    assert state.handle(done()) == [TO_PEER]
    assert state.handle(from_peer()) == [SECOND_BATCH]
    assert state.handle(done()) == [TO_MASTER, EndRequest(KEY, Outcome.FINISHED)]
    assert not state.requests
    assert state.deployments["d"].requests_done == 1
    assert state.deployments["d"].compute_seconds == 0.5


def test_a_peer_may_be_faster_than_the_master() -> None:
    state = ready_state()
    assert state.handle(from_peer()) == []
    assert state.handle(from_master()) == [FIRST_BATCH]
    assert state.handle(done()) == [TO_PEER, SECOND_BATCH]
    assert state.handle(done()) == [TO_MASTER, EndRequest(KEY, Outcome.FINISHED)]


def test_a_message_may_come_while_the_request_computes() -> None:
    state = ready_state()
    state.handle(from_master())
    assert state.handle(from_peer()) == []
    assert state.handle(done()) == [TO_PEER, SECOND_BATCH]


def test_one_request_computes_at_a_time_and_the_oldest_first() -> None:
    state = ready_state()
    assert state.handle(from_master()) == [FIRST_BATCH]
    assert state.handle(from_master(OTHER)) == []
    assert state.handle(from_peer()) == []
    assert state.handle(done()) == [TO_PEER, SECOND_BATCH]
    assert state.handle(done()) == [
        TO_MASTER,
        EndRequest(KEY, Outcome.FINISHED),
        Execute(OTHER, STEPS[:2], (INPUT,)),
    ]


def test_a_younger_request_computes_while_the_older_waits() -> None:
    state = ready_state()
    state.handle(from_master())
    state.handle(from_master(OTHER))
    assert state.handle(done()) == [TO_PEER, Execute(OTHER, STEPS[:2], (INPUT,))]


def test_work_in_front_of_a_missing_message_is_done_meanwhile() -> None:
    run, wait = Run(0, (0,), (1,)), Receive(1, 1, (0,))
    program = DeviceProgram(0, PROGRAM.values, (Receive(0, MASTER, (0,)), run, wait, run), subgraphs=PROGRAM.subgraphs)
    state = ready_state(program)
    assert state.handle(from_master()) == [Execute(KEY, program.steps[:2], (INPUT,))]
    assert state.handle(done()) == []
    assert state.handle(from_peer(payload=INPUT)) == [Execute(KEY, program.steps[2:], (INPUT,))]
    assert state.handle(done()) == [EndRequest(KEY, Outcome.FINISHED)]


def test_nothing_is_begun_that_computes_nothing_before_it_waits() -> None:
    program = DeviceProgram(
        0,
        PROGRAM.values,
        (Receive(0, MASTER, (0,)), Receive(1, 1, (2,)), Run(0, (0,), (1,))),
        subgraphs=PROGRAM.subgraphs,
    )
    state = ready_state(program)
    assert state.handle(from_master()) == []
    assert state.handle(from_peer()) == [Execute(KEY, program.steps, (INPUT, HALO))]


def test_releases_alone_are_not_executed() -> None:
    program = DeviceProgram(
        0,
        PROGRAM.values,
        (Receive(0, MASTER, (0,)), Send(1, 1, (part(0, 0, 1),)), Release(()), Send(2, MASTER, ()), Release((0,))),
    )
    state = ready_state(program)
    assert state.handle(from_master()) == [Execute(KEY, program.steps[:1], (INPUT,))]
    assert state.handle(done()) == [
        SendFrame(KEY, 1, 1, (part(0, 0, 1),), 10.0),
        SendFrame(KEY, 2, MASTER, (), 10.0),
        EndRequest(KEY, Outcome.FINISHED),
    ]


def test_the_masters_program_starts_without_a_message() -> None:
    state = ready_state(master_program())
    steps = master_program().steps
    assert state.handle(RequestStarted(KEY, 10.0, 0.0)) == [Execute(KEY, steps[:1])]
    assert [type(sent).__name__ for sent in state.handle(done())] == ["SendFrame", "SendFrame"]
    z = np.zeros(3, np.float32).tobytes()
    assert state.handle(FrameArrived(KEY, 2, 1, z, 10.0, 0.0)) == []
    assert state.handle(FrameArrived(KEY, 2, 0, z, 10.0, 0.0)) == [Execute(KEY, (steps[3], *steps[4:]), (z, z))]
    assert state.handle(done()) == [EndRequest(KEY, Outcome.FINISHED)]


# How requests end otherwise.


def test_an_unknown_deployment_is_rejected_on_the_stream() -> None:
    (reject,) = WorkerState().handle(from_master())
    assert isinstance(reject, RejectFrame)
    assert (reject.origin, reject.key, reject.failure.code) == (7, KEY, ErrorCode.MODEL_NOT_READY)


def test_a_deployment_that_is_being_built_takes_no_request() -> None:
    state = WorkerState()
    state.handle(DeployRequested("d", PROGRAM))
    (reject,) = state.handle(from_master())
    assert isinstance(reject, RejectFrame)
    assert reject.failure.code is ErrorCode.MODEL_NOT_READY


def test_a_message_that_comes_twice_fails_the_request() -> None:
    state = ready_state()
    state.handle(from_peer())
    failure = failed(state.handle(from_peer()))
    assert failure.code is ErrorCode.CORRUPT_PACKAGE
    assert failure.message == "The message of bert for exchange 1 came twice."


def test_an_unexpected_message_fails_the_request() -> None:
    failure = failed(ready_state().handle(FrameArrived(KEY, 5, 1, b"", 10.0, 0.0)))
    assert failure.message == "The message of bert for exchange 5 came unexpectedly."


def test_a_message_of_a_wrong_size_fails_the_request() -> None:
    failure = failed(ready_state().handle(from_master(payload=INPUT[:-1])))
    assert failure.code is ErrorCode.CORRUPT_PACKAGE
    assert failure.message == "The message of the master for exchange 0 has 15 bytes instead of 16."


def test_an_execution_that_fails_fails_the_request_and_the_next_one_computes() -> None:
    state = ready_state()
    state.handle(from_master())
    state.handle(from_master(OTHER))
    failure = Failure(ErrorCode.EXECUTION_FAILED, "no")
    assert state.handle(ExecutionFailed(KEY, failure)) == [
        SendFailure(KEY, failure),
        EndRequest(KEY, Outcome.FAILED, "no"),
        Execute(OTHER, STEPS[:2], (INPUT,)),
    ]


def test_a_refused_frame_fails_the_request() -> None:
    state = ready_state()
    state.handle(from_master())
    failure = Failure(ErrorCode.MODEL_NOT_READY, "no such deployment")
    assert failed(state.handle(FailureArrived(KEY, failure))) == failure
    assert state.handle(FailureArrived(KEY, failure)) == []


def test_a_request_whose_last_frame_is_lost_is_reported_though_it_is_finished() -> None:
    state = ready_state()
    for event in (from_master(), from_peer(), done(), done()):
        state.handle(event)
    failure = Failure(ErrorCode.TOO_LARGE, "the answer is too large")
    assert state.handle(FailureArrived(KEY, failure)) == [SendFailure(KEY, failure)]
    assert state.handle(FailureArrived(KEY, failure)) == []


def test_finished_requests_are_reported_when_the_stream_that_took_their_frames_breaks() -> None:
    state = ready_state()
    for event in (from_master(), from_peer(), done(), done()):
        state.handle(event)
    (report,) = state.handle(PeerLost("d", 1, receiving=False))
    assert isinstance(report, SendFailure)
    assert report.key == KEY
    assert report.failure.code is ErrorCode.DEVICE_UNREACHABLE
    assert state.handle(PeerLost("d", 1, receiving=False)) == []


def test_a_cancelled_request_is_forgotten_and_its_late_messages_are_dropped() -> None:
    state = ready_state()
    state.handle(from_peer())
    assert state.handle(CancelArrived(KEY, "client left")) == [EndRequest(KEY, Outcome.CANCELLED, "client left")]
    assert state.handle(CancelArrived(KEY, "again")) == []
    assert state.handle(from_master()) == []
    assert not state.requests


def test_a_cancellation_may_overtake_the_first_message() -> None:
    state = ready_state()
    assert state.handle(CancelArrived(KEY, "client left")) == []
    assert state.handle(from_master()) == []


def test_a_request_cancelled_while_it_computes_leaves_the_thread_to_the_next() -> None:
    state = ready_state()
    state.handle(from_master())
    assert state.handle(CancelArrived(KEY, "")) == [EndRequest(KEY, Outcome.CANCELLED)]
    assert state.handle(from_master(OTHER)) == []
    assert state.handle(done()) == [Execute(OTHER, STEPS[:2], (INPUT,))]


def test_messages_of_a_finished_request_are_dropped() -> None:
    state = ready_state()
    for event in (from_peer(), from_master(), done(), done()):
        state.handle(event)
    assert state.handle(from_peer()) == []
    assert state.handle(CancelArrived(KEY, "late")) == []


def test_ended_requests_are_forgotten_in_the_end() -> None:
    state = ready_state(remembered=2)
    for number in range(3):
        state.handle(CancelArrived(RequestKey("d", number), ""))
    assert state.handle(from_master(RequestKey("d", 1))) == []
    assert state.handle(from_master(RequestKey("d", 0))) != []


def test_the_deadline_ends_a_request_and_names_who_kept_it_waiting() -> None:
    state = ready_state()
    state.handle(from_master(deadline=5.0))
    state.handle(done())
    assert state.wake_at() == 5.0
    assert state.handle(TimePassed(4.9)) == []
    failure = failed(state.handle(TimePassed(5.0)))
    assert failure.code is ErrorCode.DEADLINE_EXCEEDED
    assert failure.message == "The deadline passed on anna, which was waiting for bert."
    assert state.wake_at() is None


def test_the_deadline_may_pass_while_a_request_computes() -> None:
    state = ready_state()
    state.handle(from_peer())
    state.handle(from_master(deadline=5.0))
    assert failed(state.handle(TimePassed(10.0))).message == "The deadline passed on anna, which was computing."
    assert state.handle(done()) == []


def test_a_lost_peer_fails_what_waits_for_it_and_is_named() -> None:
    state = ready_state()
    state.handle(from_master())
    state.handle(from_peer(OTHER))
    failure = failed(state.handle(PeerLost("d", 1, receiving=True)))
    assert failure.code is ErrorCode.DEVICE_UNREACHABLE
    assert failure.message == "The link between anna and bert broke."
    assert list(state.requests) == [OTHER]


def test_a_broken_stream_to_a_peer_fails_every_request_that_sends_to_it() -> None:
    state = ready_state()
    state.handle(from_peer())
    state.handle(from_master())
    state.handle(done())
    assert failed(state.handle(PeerLost("d", 1, receiving=False))).code is ErrorCode.DEVICE_UNREACHABLE


def test_a_lost_stranger_harms_nobody() -> None:
    state = ready_state()
    state.handle(from_master())
    assert state.handle(PeerLost("d", 5, receiving=True)) == []
    assert state.handle(PeerLost("d", 5, receiving=False)) == []
    assert state.handle(PeerLost("unknown", 1, receiving=True)) == []


# Bounds.


def test_requests_are_bounded() -> None:
    state = ready_state(requests=1)
    state.handle(from_master())
    failure = failed(state.handle(from_master(OTHER)))
    assert failure.code is ErrorCode.OVERLOADED
    assert state.handle(from_peer(OTHER)) == []


def test_what_requests_may_take_is_bounded_but_one_always_runs() -> None:
    size = ready_state().deployments["d"].request_bytes
    state = ready_state(activation_bytes=size - 1)
    assert state.most_requests("d") == 1
    assert state.handle(from_master()) == [FIRST_BATCH]
    (failed, ended) = state.handle(from_master(OTHER))
    assert isinstance(failed, SendFailure)
    assert failed.failure.code is ErrorCode.OVERLOADED
    assert ended == EndRequest(OTHER, Outcome.FAILED, failed.failure.message)
    assert ready_state(activation_bytes=3 * size).most_requests("d") == 3


def test_waiting_messages_are_bounded() -> None:
    state = ready_state(buffered_bytes=5)
    assert state.handle(from_peer()) == []
    failure = failed(state.handle(from_peer(OTHER)))
    assert failure.code is ErrorCode.OVERLOADED
    state.handle(CancelArrived(KEY, ""))
    assert state.handle(from_peer(RequestKey("d", 3))) == []


# Deployments.


def test_a_deployment_is_built_and_confirmed() -> None:
    state = WorkerState()
    assert state.handle(DeployRequested("d", PROGRAM)) == [BuildDeployment("d", PROGRAM)]
    assert state.handle(DeploymentBuilt("d")) == [ConfirmDeployment("d")]


def test_a_deployment_that_cannot_be_built_is_refused() -> None:
    state = WorkerState()
    state.handle(DeployRequested("d", PROGRAM))
    failure = Failure(ErrorCode.CORRUPT_PACKAGE, "no")
    assert state.handle(DeploymentFailed("d", failure)) == [FreeDeployment("d"), RefuseDeployment("d", failure)]
    assert not state.deployments


def refusal(instructions: list[Instruction]) -> Failure:
    (refuse,) = instructions
    assert isinstance(refuse, RefuseDeployment)
    return refuse.failure


def test_a_program_that_makes_no_sense_is_refused() -> None:
    program = DeviceProgram(0, (), (Send(0, 1, (part(0, 0, 1),)),))
    assert refusal(WorkerState().handle(DeployRequested("d", program))).code is ErrorCode.CORRUPT_PACKAGE


def test_a_deployment_comes_once() -> None:
    assert refusal(ready_state().handle(DeployRequested("d", PROGRAM))).code is ErrorCode.INVALID_ARGUMENT


def test_a_deployment_that_does_not_fit_the_memory_is_refused_with_numbers() -> None:
    size = ready_state().deployments["d"].resident_bytes
    state = ready_state(memory_bytes=size + 10)
    failure = refusal(state.handle(DeployRequested("e", PROGRAM, model="ResNet")))
    assert failure.code is ErrorCode.OUT_OF_MEMORY
    assert failure.message == f"ResNet takes {size} bytes on this worker, which has 10 of {size + 10} left."
    state.handle(UndeployRequested("d"))
    assert state.handle(DeployRequested("e", PROGRAM)) == [BuildDeployment("e", PROGRAM)]


def test_the_end_of_a_deployment_cancels_its_requests() -> None:
    state = ready_state()
    state.handle(from_master())
    reason = "its deployment has ended"
    assert state.handle(UndeployRequested("d")) == [
        EndRequest(KEY, Outcome.CANCELLED, reason),
        FreeDeployment("d"),
    ]
    assert state.handle(UndeployRequested("d")) == []
    assert state.handle(done()) == []


def test_a_deployment_may_end_while_it_is_built() -> None:
    state = WorkerState()
    state.handle(DeployRequested("d", PROGRAM))
    assert state.handle(UndeployRequested("d")) == [FreeDeployment("d")]
    assert state.handle(DeploymentBuilt("d")) == [FreeDeployment("d")]


def test_a_lost_master_cancels_its_requests_at_once_and_its_deployments_later() -> None:
    state = ready_state(lease_seconds=60.0)
    state.handle(from_master(deadline=1000.0))
    assert state.handle(MasterLost("m", at=100.0)) == [EndRequest(KEY, Outcome.CANCELLED, "the master is gone")]
    assert state.wake_at() == 160.0
    assert state.handle(TimePassed(159.0)) == []
    assert state.handle(TimePassed(160.0)) == [FreeDeployment("d")]


def test_a_master_that_comes_back_keeps_its_deployments() -> None:
    state = ready_state()
    state.handle(MasterLost("m", at=100.0))
    assert state.handle(MasterConnected("m")) == []
    assert state.handle(TimePassed(1000.0)) == []
    assert state.handle(from_master(OTHER)) == [Execute(OTHER, STEPS[:2], (INPUT,))]


def test_a_master_that_started_again_takes_its_deployment_over() -> None:
    state = ready_state()
    known = state.deployments["d"]
    again = DeployRequested("d", PROGRAM, known.master_id, known.model, known.device_names)
    assert state.handle(again) == [ConfirmDeployment("d")]
    assert refusal(state.handle(replace(again, master_id="another"))).code is ErrorCode.INVALID_ARGUMENT
    assert refusal(state.handle(replace(again, program=device_program(1)))).code is ErrorCode.INVALID_ARGUMENT


def test_a_master_that_connects_again_keeps_what_it_claims_but_no_request() -> None:
    state = ready_state()
    state.handle(from_master())
    ended = EndRequest(KEY, Outcome.CANCELLED, "the master has connected again")
    assert state.handle(DeploymentsClaimed("m", frozenset({"d", "unknown"}))) == [ended]
    assert list(state.deployments) == ["d"]


def test_what_no_master_claims_is_freed() -> None:
    state = ready_state()
    assert state.handle(DeploymentsClaimed("another", frozenset())) == []
    assert state.handle(DeploymentsClaimed("m", frozenset({"e"}))) == [FreeDeployment("d")]
    assert not state.deployments


def test_another_masters_deployments_stay() -> None:
    state = ready_state()
    state.handle(from_master())
    assert state.handle(MasterLost("somebody else", at=100.0)) == []


# The end.


def test_an_idle_worker_leaves_at_once() -> None:
    assert ready_state().handle(DrainStarted()) == [Leave()]


def test_a_draining_worker_finishes_its_requests_and_takes_no_new_ones() -> None:
    state = ready_state()
    state.handle(from_master())
    assert state.handle(DrainStarted()) == []
    assert failed(state.handle(from_master(OTHER))).code is ErrorCode.SHUTTING_DOWN
    assert state.handle(from_peer()) == []
    assert state.handle(done()) == [TO_PEER, SECOND_BATCH]
    assert state.handle(done()) == [TO_MASTER, EndRequest(KEY, Outcome.FINISHED), Leave()]
    assert refusal(state.handle(DeployRequested("e", PROGRAM))[:1]).code is ErrorCode.SHUTTING_DOWN


@pytest.mark.parametrize("names", [(), ("only anna",)])
def test_devices_without_a_name_have_a_number(names: tuple[str, ...]) -> None:
    state = WorkerState()
    state.handle(DeployRequested("d", PROGRAM, device_names=names))
    assert state.deployments["d"].name_of(1) == "device 1"
    assert state.deployments["d"].program.values[0] == value("x", 0, 4)
