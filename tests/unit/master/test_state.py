"""The master's decisions: for each story, exactly these instructions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flexpie.core.errors import ErrorCode
from flexpie.master.events import (
    DeploymentFailed,
    DeploymentPlanned,
    DeploymentReady,
    DeviceAnswered,
    DeviceConnected,
    DeviceLeft,
    DeviceLost,
    DeviceRefused,
    DeviceSuspected,
    DrainEnded,
    Event,
    GraceEnded,
    ModelRequested,
    PauseEnded,
    PlanDistrusted,
    PlanSummary,
    RequestArrived,
    RequestDisturbed,
    RequestEnded,
    RetryDue,
    ShutdownRequested,
    StageReached,
    UnloadRequested,
)
from flexpie.master.instructions import (
    AbandonDeployment,
    FailRequest,
    ForgetModel,
    HoldRequest,
    Probe,
    RememberDistrust,
    SchedulePause,
    ScheduleRetry,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.master.records import DeviceState, ModelState
from flexpie.master.reruns import MAX_RUNS
from flexpie.master.state import MAX_ATTEMPTS
from flexpie.wire.framing import Failure
from tests.unit.master.story import CAT, DOG, LATER, Story, ready, serving

# ------------------------------------------------------------------------------------------- the way up


def test_a_model_is_deployed_once_every_device_has_connected() -> None:
    story = Story("a", "b")
    assert story.tell(ModelRequested(CAT, kept=True)) == []
    assert story.model() == (ModelState.LOADING, "devices are connecting")
    assert story.tell(DeviceConnected("b")) == []
    assert story.tell(DeviceConnected("a")) == [StartDeployment("1", CAT, ("a", "b"))]
    assert story.tell(StageReached("1", "push", 10, 20, "bytes")) == []
    assert story.model() == (ModelState.LOADING, "stage push")
    assert story.tell(*ready("1", "a", "b")) == []
    assert story.model() == (ModelState.READY, "")


def test_a_device_that_starts_late_has_the_grace_to_connect() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT, kept=True), DeviceConnected("a"))
    assert story.tell(DeviceLost("b", "connection refused")) == []
    assert story.device("b") == (DeviceState.CONNECTING, "connection refused")
    assert story.tell(GraceEnded()) == [StartDeployment("1", CAT, ("a",))]
    assert story.device("b") == (DeviceState.UNREACHABLE, "connection refused")


def test_a_refused_device_is_not_waited_for() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT, kept=True), DeviceConnected("a"))
    assert story.tell(DeviceRefused("b", "speaks protocol 2")) == [StartDeployment("1", CAT, ("a",))]
    assert story.device("b") == (DeviceState.REFUSED, "speaks protocol 2")


def test_without_any_device_a_model_waits_and_requests_do_not() -> None:
    story = Story("a")
    story.tell(ModelRequested(CAT, kept=True), GraceEnded())
    assert story.model() == (ModelState.WAITING, "no device is connected")
    assert story.failures(RequestArrived(1, "cat")) == [(1, ErrorCode.MODEL_NOT_READY)]
    assert story.tell(DeviceConnected("a")) == [StartDeployment("1", CAT, ("a",))]


def test_models_are_deployed_one_after_another_with_the_memory_that_is_left() -> None:
    story = Story("a", "b")
    told = story.tell(ModelRequested(CAT), ModelRequested(DOG), DeviceConnected("a"), DeviceConnected("b"))
    assert told == [StartDeployment("1", CAT, ("a", "b"))]
    assert story.model("dog") == (ModelState.LOADING, "another model is being deployed")
    plan = DeploymentPlanned("1", PlanSummary(("a",)))
    assert story.tell(plan, DeploymentReady("1", {"a": 700})) == [StartDeployment("2", DOG, ("a", "b"), {"a": 700})]


def test_a_wrong_model_fails_for_good_and_the_next_one_is_deployed() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT, kept=True), ModelRequested(DOG), DeviceConnected("a"), DeviceConnected("b"))
    failure = Failure(ErrorCode.INVALID_MODEL, "It is a picture.")
    assert story.tell(DeploymentFailed("1", failure)) == [StartDeployment("2", DOG, ("a", "b"))]
    assert story.model() == (ModelState.FAILED, "It is a picture.")
    assert story.failures(RequestArrived(1, "cat")) == [(1, ErrorCode.MODEL_NOT_READY)]
    story.tell(*ready("2", "a"))
    assert story.tell(DeviceLost("b", "gone"), DeviceConnected("b", at=LATER)) == []
    assert story.tell(ModelRequested(CAT, kept=True)) == [StartDeployment("3", CAT, ("a", "b"))]


def test_a_model_that_did_not_fit_is_tried_again_when_the_devices_change() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT, kept=True), DeviceConnected("a"), GraceEnded())
    failure = Failure(ErrorCode.OUT_OF_MEMORY, "It needs more.")
    assert story.tell(DeploymentFailed("1", failure)) == []
    assert story.model() == (ModelState.FAILED, "It needs more.")
    assert story.tell(DeviceConnected("b")) == [StartDeployment("2", CAT, ("a", "b"))]


# ------------------------------------------------------------------------------------------- requests


def test_requests_run_on_the_deployment_that_serves() -> None:
    story = serving("a", "b")
    assert story.tell(RequestArrived(1, "cat"), RequestArrived(2, "cat")) == [
        StartRequest(1, "1"),
        StartRequest(2, "1"),
    ]
    assert story.tell(RequestEnded(1, succeeded=True), RequestEnded(2, succeeded=False)) == []
    assert (story.state.requests_done, story.state.requests_failed) == (1, 1)


def test_an_unknown_model_is_not_found() -> None:
    story = serving("a")
    (told,) = story.tell(RequestArrived(1, "cow"))
    assert told == FailRequest(1, Failure(ErrorCode.MODEL_NOT_FOUND, "There is no model 'cow'.", "Models here: cat."))


def test_a_model_that_was_never_ready_refuses_requests() -> None:
    story = Story("a")
    story.tell(ModelRequested(CAT), DeviceConnected("a"))
    assert story.failures(RequestArrived(1, "cat")) == [(1, ErrorCode.MODEL_NOT_READY)]


# --------------------------------------------------------------------------------------- lost devices


def test_what_a_lost_device_left_is_run_again_on_the_survivors_before_later_requests() -> None:
    story = serving("a", "b", "c")
    story.tell(RequestArrived(1, "cat"), RequestArrived(2, "cat"))
    told = story.tell(DeviceLost("b", "connection reset"))
    assert told == [
        HoldRequest(2),
        HoldRequest(1),
        Undeploy("1", ("a", "c")),
        StartDeployment("2", CAT, ("a", "c")),
    ]
    assert story.tell(RequestArrived(3, "cat")) == [], "it waits"
    assert story.tell(*ready("2", "a", "c")) == [StartRequest(number, "2") for number in (1, 2, 3)]


def test_a_request_is_not_run_for_ever() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"))
    failure = Failure(ErrorCode.DEVICE_UNREACHABLE, "The link between a and b broke.")
    for _ in range(MAX_RUNS - 1):
        told = story.tell(RequestDisturbed(1, "1", failure), DeviceAnswered("a"), DeviceAnswered("b"), PauseEnded("1"))
        assert told[-1] == StartRequest(1, "1")
    assert story.tell(RequestDisturbed(1, "1", failure))[0] == FailRequest(1, failure)
    assert len(story.state.reruns) == 0


def test_what_does_not_fit_the_survivors_fails_with_the_numbers() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"))
    story.tell(DeviceLost("b", "gone"))
    failure = Failure(ErrorCode.OUT_OF_MEMORY, "No plan fits: a needs 9.0 MB and has 5.0 MB.", "Add a device.")
    (told,) = story.tell(DeploymentFailed("2", failure))
    assert isinstance(told, FailRequest)
    assert told.failure.code is ErrorCode.MODEL_NOT_READY
    assert "a needs 9.0 MB and has 5.0 MB" in told.failure.message


def test_a_disturbed_run_is_repeated_when_its_devices_have_answered_and_a_pause_is_over() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"))
    failure = Failure(ErrorCode.DEVICE_UNREACHABLE, "The link between a and b broke.")
    told = story.tell(RequestDisturbed(1, "1", failure))
    assert told == [HoldRequest(1), SchedulePause("1", 0.05), Probe("a"), Probe("b")]
    assert story.tell(RequestDisturbed(1, "1", failure)) == [], "told twice"
    assert story.tell(DeviceAnswered("a"), DeviceAnswered("b")) == []
    assert story.tell(PauseEnded("1")) == [StartRequest(1, "1")]
    assert story.tell(RequestDisturbed(1, "1", failure))[1] == SchedulePause("1", 0.1)


def test_a_returning_device_is_planned_in_while_the_others_go_on() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone"), *ready("2", "a"), RequestArrived(1, "cat"))
    assert story.tell(DeviceConnected("b", at=LATER)) == [StartDeployment("3", CAT, ("a", "b"))]
    assert story.tell(RequestArrived(2, "cat")) == [StartRequest(2, "2")]
    assert story.tell(*ready("3", "a", "b")) == []
    assert story.tell(RequestArrived(3, "cat")) == [StartRequest(3, "3")]
    assert story.tell(RequestEnded(1, succeeded=True)) == []
    assert story.tell(RequestEnded(2, succeeded=True)) == [Undeploy("2", ("a",))]


def test_a_device_that_takes_no_part_may_go_and_come() -> None:
    story = serving("a", "b", on=("a",))
    story.tell(RequestArrived(1, "cat"))
    assert story.tell(DeviceLost("b", "gone"), DeviceConnected("b", at=LATER)) == []


def test_when_the_last_device_is_lost_waiting_requests_fail_at_once() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone"), RequestArrived(1, "cat"))
    told = story.tell(DeviceLost("a", "gone too"))
    assert told[0] == AbandonDeployment("2")
    assert isinstance(told[1], FailRequest)
    assert story.model() == (ModelState.WAITING, "no device is connected")
    assert story.tell(DeviceConnected("a", at=LATER)) == [StartDeployment("3", CAT, ("a",))]


def test_a_device_lost_while_a_model_is_deployed_restarts_the_deployment() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT), DeviceConnected("a"), DeviceConnected("b"))
    assert story.tell(DeviceLost("b", "gone")) == [AbandonDeployment("1"), StartDeployment("2", CAT, ("a",))]
    assert story.tell(*ready("1", "a", "b")) == [], "news of an abandoned deployment"
    assert story.model() == (ModelState.LOADING, "stage import")


def test_a_device_that_joins_does_not_disturb_a_deployment_under_way() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT), DeviceConnected("a"), GraceEnded())
    assert story.tell(DeviceConnected("b")) == []
    assert story.tell(*ready("1", "a")) == [StartDeployment("2", CAT, ("a", "b"))]
    assert story.tell(*ready("2", "a", "b")) == [Undeploy("1", ("a",))]


def test_a_failed_attempt_at_a_better_plan_leaves_the_old_oneserving() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone"), *ready("2", "a"), DeviceConnected("b", at=LATER))
    assert story.tell(DeploymentFailed("3", Failure(ErrorCode.OUT_OF_MEMORY, "no"))) == []
    assert story.tell(RequestArrived(1, "cat")) == [StartRequest(1, "2")]


def test_requests_of_replaced_deployments_are_run_again_too() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone"), *ready("2", "a"), RequestArrived(1, "cat"))
    story.tell(DeviceConnected("b", at=LATER), *ready("3", "b"))
    told = story.tell(DeviceLost("a", "gone"))
    assert told == [HoldRequest(1), Undeploy("2", ()), StartRequest(1, "3")]


# ------------------------------------------------------------------------------------ suspected devices


def test_requests_wait_while_a_device_is_probed() -> None:
    story = serving("a", "b")
    assert story.tell(DeviceSuspected("b"), DeviceSuspected("b")) == [Probe("b")]
    assert story.tell(RequestArrived(1, "cat")) == []
    assert story.tell(DeviceAnswered("b")) == [StartRequest(1, "1")]


def test_requests_that_waited_for_a_probe_succeed_on_the_survivors() -> None:
    story = serving("a", "b")
    story.tell(DeviceSuspected("b"), RequestArrived(1, "cat"))
    assert story.tell(DeviceLost("b", "gone")) == [Undeploy("1", ("a",)), StartDeployment("2", CAT, ("a",))]
    assert story.tell(*ready("2", "a")) == [StartRequest(1, "2")]


def test_a_device_that_is_shutting_down_finishes_its_requests_and_gets_no_new_ones() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"), DeviceSuspected("b"), RequestArrived(2, "cat"))
    assert story.tell(DeviceLeft("b")) == [StartDeployment("2", CAT, ("a",))]
    assert story.device("b") == (DeviceState.LEAVING, "it is shutting down")
    assert story.tell(DeviceLeft("b")) == []
    assert story.tell(*ready("2", "a")) == [StartRequest(2, "2")]
    assert story.tell(RequestEnded(1, succeeded=True)) == [Undeploy("1", ("a",))]
    assert story.tell(DeviceLost("b", "gone")) == []
    assert story.tell(DeviceConnected("b", at=LATER)) == [StartDeployment("3", CAT, ("a", "b"))]


def test_what_a_device_that_was_leaving_did_not_finish_is_run_again() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"), DeviceLeft("b"))
    assert story.tell(DeviceLost("b", "gone")) == [HoldRequest(1), Undeploy("1", ("a",))]
    assert story.tell(*ready("2", "a")) == [StartRequest(1, "2")]


def test_a_deployment_that_a_device_did_not_answer_is_tried_a_few_times() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone"), RequestArrived(1, "cat"))
    failure = Failure(ErrorCode.DEVICE_UNREACHABLE, "a cannot be reached.")
    for attempt in range(MAX_ATTEMPTS):
        retry = ScheduleRetry("cat", min(0.5 * 2**attempt, 15))
        assert story.tell(DeploymentFailed(str(attempt + 2), failure)) == [Probe("a"), retry]
        assert story.model() == (ModelState.LOADING, "trying again: a cannot be reached.")
        told = story.tell(DeviceAnswered("a"), RetryDue("cat"))
        assert told == [StartDeployment(str(attempt + 3), CAT, ("a",))]
    last = DeploymentFailed(str(MAX_ATTEMPTS + 2), failure)
    assert story.failures(last) == [(1, ErrorCode.MODEL_NOT_READY)]
    assert story.model() == (ModelState.FAILED, "a cannot be reached.")
    assert story.tell(RetryDue("cat")) == []


def test_room_on_a_worker_is_waited_for_when_the_model_must_be_served() -> None:
    story = Story("a")
    story.tell(ModelRequested(CAT, kept=True), ModelRequested(DOG), DeviceConnected("a"))
    failure = Failure(ErrorCode.OUT_OF_MEMORY, "a is full.")
    story.tell(DeploymentPlanned("1", PlanSummary(("a",))), StageReached("1", "build", 0, 1, "devices"))
    told = story.tell(DeploymentFailed("1", failure))
    assert told == [ScheduleRetry("cat", 0.5), StartDeployment("2", DOG, ("a",))]
    story.tell(DeploymentPlanned("2", PlanSummary(("a",))), StageReached("2", "build", 0, 1, "devices"))
    assert story.tell(DeploymentFailed("2", failure)) == [], "who uploads a model is told at once"
    assert story.model("dog") == (ModelState.FAILED, "a is full.")
    assert story.tell(RetryDue("cat")) == [StartDeployment("3", CAT, ("a",))]


# --------------------------------------------------------------------------------------- unload and stop


def test_an_unloaded_model_finishes_its_requests_and_is_gone() -> None:
    story = Story("a")
    story.tell(ModelRequested(CAT), DeviceConnected("a"), *ready("1", "a"), RequestArrived(1, "cat"))
    assert story.tell(UnloadRequested("cat")) == [ForgetModel("cat")]
    assert story.failures(RequestArrived(2, "cat")) == [(2, ErrorCode.MODEL_NOT_FOUND)]
    assert story.tell(RequestEnded(1, succeeded=True)) == [Undeploy("1", ("a",))]


def test_a_model_of_the_cluster_file_can_be_loaded_again() -> None:
    story = serving("a")
    assert story.tell(UnloadRequested("cat")) == [Undeploy("1", ("a",)), ForgetModel("cat")]
    assert story.model() == (ModelState.UNLOADED, "unloaded")
    assert story.failures(RequestArrived(1, "cat")) == [(1, ErrorCode.MODEL_NOT_READY)]
    assert story.tell(ModelRequested(CAT, kept=True)) == [StartDeployment("2", CAT, ("a",))]


def test_unloading_a_model_under_way_abandons_it_and_starts_the_next() -> None:
    story = Story("a")
    story.tell(ModelRequested(CAT), ModelRequested(DOG), DeviceConnected("a"))
    told = story.tell(UnloadRequested("cat"))
    assert told == [AbandonDeployment("1"), ForgetModel("cat"), StartDeployment("2", DOG, ("a",))]


def test_stopping_lets_requests_finish_and_takes_no_new_ones() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"), RequestArrived(2, "cat"))
    assert story.tell(ShutdownRequested()) == []
    assert story.failures(RequestArrived(3, "cat")) == [(3, ErrorCode.SHUTTING_DOWN)]
    story.tell(RequestEnded(1, succeeded=True))
    told = story.tell(DrainEnded())
    assert isinstance(told[0], FailRequest)
    assert told[1:] == [Undeploy("1", ("a", "b"))]
    assert not story.state.requests


def test_stopping_fails_requests_that_wait_for_a_plan() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone"), RequestArrived(1, "cat"))
    assert story.failures(ShutdownRequested()) == [(1, ErrorCode.SHUTTING_DOWN)]


@pytest.mark.parametrize("event", [UnloadRequested, RetryDue, lambda name: RequestEnded(7, succeeded=True)])
def test_news_of_what_is_unknown_is_ignored(event: Callable[[str], Event]) -> None:
    assert serving("a").tell(event("cow")) == []


# ------------------------------------------------------------------------------------------- distrust


def test_a_plan_that_gave_a_wrong_answer_is_taken_out_of_service() -> None:
    story = serving("a", "b", "c")
    story.tell(RequestArrived(1, "cat"))
    told = story.tell(PlanDistrusted("1", "c is wrong", frozenset({"a", "b"})))
    starts = [item for item in told if isinstance(item, StartDeployment)]
    assert [(item.devices, item.entry.scheme) for item in starts] == [(("a", "b"), "Single")]
    assert starts[0].remark == "not divided any more: c is wrong"
    assert StartRequest(1, "2") in story.tell(*ready("2", "a"))
    assert story.tell(PlanDistrusted("1", "late", frozenset())) == []


def test_distrust_is_remembered_and_holds_in_the_next_run() -> None:
    story, found = serving("a", "b"), PlanDistrusted("1", "b is wrong", frozenset({"a"}))
    assert RememberDistrust("cat", 0, found) in story.tell(found)
    story = Story("a", "b")
    told = story.tell(ModelRequested(CAT, kept=True, distrusted={0: found}), DeviceConnected("a"), DeviceConnected("b"))
    (start,) = (item for item in told if isinstance(item, StartDeployment))
    assert (start.devices, start.entry.scheme, start.remark) == (("a",), "Single", "not divided any more: b is wrong")


def test_a_model_that_is_loaded_again_is_trusted_again() -> None:
    story = serving("a", "b")
    story.tell(PlanDistrusted("1", "b is wrong", frozenset({"a"})), *ready("2", "a"))
    story.tell(UnloadRequested("cat"))
    (start,) = story.tell(ModelRequested(CAT, kept=True))
    assert isinstance(start, StartDeployment)
    assert (start.entry.scheme, start.remark) == ("auto", "")
