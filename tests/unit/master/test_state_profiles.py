"""A model with several profiles: each is planned, deployed, lost and found again on its own."""

from __future__ import annotations

from pathlib import Path

from flexpie.core.errors import ErrorCode
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.events import (
    DeploymentFailed,
    DeploymentPlanned,
    DeploymentReady,
    DeviceConnected,
    DeviceLost,
    ModelImported,
    ModelRequested,
    PlanSummary,
    RequestArrived,
    RequestEnded,
    RetryDue,
    StageReached,
    UnloadRequested,
)
from flexpie.master.instructions import (
    AbandonDeployment,
    FailRequest,
    ForgetModel,
    HoldRequest,
    ScheduleRetry,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.master.interface import Interface
from flexpie.master.readiness import failure_of
from flexpie.master.records import ModelState
from flexpie.wire.framing import Failure
from tests.unit.master.story import LATER, Story, ready

BERT = ModelEntry("bert", Path("/models/bert.onnx"), ({"ids": (1, 64)}, {"ids": (1, 128), "mask": (1, 128)}))
SMALL, LARGE = 0, 1


def _start(
    deployment: str,
    *devices: str,
    profile: int = SMALL,
    reserved: dict[str, int] | None = None,
    siblings: tuple[int, ...] = (),
) -> object:
    return StartDeployment(deployment, BERT, devices, reserved or {}, profile, siblings)


def _serving(*, small: tuple[str, ...] = ("a", "b"), large: tuple[str, ...] = ("a", "b")) -> Story:
    """Both profiles ready: deployment 1 is the small one, 2 the large one."""
    story = Story("a", "b")
    story.tell(ModelRequested(BERT, kept=True), DeviceConnected("a"), DeviceConnected("b"))
    story.tell(*ready("1", *small), *ready("2", *large))
    assert story.model("bert") == (ModelState.READY, "")
    return story


def test_profiles_are_deployed_one_after_another_and_count_each_others_memory() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(BERT, kept=True), DeviceConnected("a"))
    assert story.tell(DeviceConnected("b")) == [_start("1", "a", "b", siblings=(LARGE,))]
    story.tell(StageReached("1", "plan"))
    assert story.model("bert") == (ModelState.LOADING, "ids=1x64: stage plan")
    planned = DeploymentPlanned("1", PlanSummary(("a", "b")))
    told = story.tell(planned, DeploymentReady("1", {"a": 700, "b": 300}))
    assert told == [_start("2", "a", "b", profile=LARGE, reserved={"a": 700, "b": 300})]
    assert story.model("bert") == (ModelState.LOADING, "ids=1x128,mask=1x128: stage import")
    assert story.tell(*ready("2", "a")) == []
    assert story.model("bert") == (ModelState.READY, "")


def test_a_profile_that_is_ready_answers_while_another_is_loaded() -> None:
    story = Story("a")
    story.tell(ModelRequested(BERT), DeviceConnected("a"), *ready("1", "a"))
    assert story.tell(RequestArrived(1, "bert", SMALL)) == [StartRequest(1, "1")]
    (told,) = story.tell(RequestArrived(2, "bert", LARGE))
    assert isinstance(told, FailRequest)
    assert told.failure.code is ErrorCode.MODEL_NOT_READY
    assert told.failure.message == "Model bert with ids=1x128,mask=1x128 is not ready (loading): stage import."


def test_requests_run_on_the_deployment_of_their_profile() -> None:
    story = _serving()
    told = story.tell(RequestArrived(1, "bert", LARGE), RequestArrived(2, "bert", SMALL))
    assert told == [StartRequest(1, "2"), StartRequest(2, "1")]
    story.tell(RequestEnded(1, succeeded=True), RequestEnded(2, succeeded=False))
    assert (story.state.requests_done, story.state.requests_failed) == (1, 1)


def test_a_lost_device_costs_only_the_profiles_that_need_it() -> None:
    story = _serving(small=("a",))
    story.tell(RequestArrived(1, "bert", SMALL), RequestArrived(2, "bert", LARGE))
    told = story.tell(DeviceLost("b", "gone"))
    assert [item.request for item in told if isinstance(item, HoldRequest)] == [2]
    assert told[1:] == [Undeploy("2", ("a",)), _start("3", "a", profile=LARGE)]
    assert story.tell(RequestArrived(3, "bert", SMALL)) == [StartRequest(3, "1")]
    assert story.tell(RequestArrived(4, "bert", LARGE)) == [], "it waits"
    assert story.tell(*ready("3", "a")) == [StartRequest(2, "3"), StartRequest(4, "3")]


def test_every_profile_is_planned_again_and_their_requests_wait() -> None:
    story = _serving()
    told = story.tell(DeviceLost("b", "gone"))
    assert told == [Undeploy("1", ("a",)), Undeploy("2", ("a",)), _start("3", "a", siblings=(LARGE,))]
    assert story.tell(RequestArrived(1, "bert", LARGE), RequestArrived(2, "bert", SMALL)) == []
    assert story.tell(*ready("3", "a")) == [_start("4", "a", profile=LARGE), StartRequest(2, "3")]
    assert story.tell(*ready("4", "a")) == [StartRequest(1, "4")]


def test_every_profile_is_planned_again_when_a_device_joins() -> None:
    story = _serving()
    story.tell(DeviceLost("b", "gone"), *ready("3", "a"), *ready("4", "a"))
    assert story.tell(DeviceConnected("b", at=LATER)) == [_start("5", "a", "b")]
    assert story.tell(RequestArrived(1, "bert", SMALL)) == [StartRequest(1, "3")]
    assert story.tell(*ready("5", "a", "b")) == [_start("6", "a", "b", profile=LARGE)], "3 has a request"
    assert story.tell(*ready("6", "a", "b")) == [Undeploy("4", ("a",))]
    assert story.tell(RequestEnded(1, succeeded=True)) == [Undeploy("3", ("a",))]


def test_a_profile_that_fails_leaves_the_others() -> None:
    story = Story("a")
    failure = Failure(ErrorCode.OUT_OF_MEMORY, "It needs more.")
    story.tell(ModelRequested(BERT, kept=True), DeviceConnected("a"), *ready("1", "a"))
    assert story.tell(DeploymentFailed("2", failure)) == []
    model = story.state.models["bert"]
    assert story.model("bert") == (ModelState.FAILED, "It needs more.")
    assert failure_of(model, story.state.members, story.state.links) == failure
    assert not model.ready
    assert story.tell(RequestArrived(1, "bert", SMALL)) == [StartRequest(1, "1")]
    assert story.failures(RequestArrived(2, "bert", LARGE)) == [(2, ErrorCode.MODEL_NOT_READY)]
    assert story.tell(ModelRequested(BERT, kept=True)) == [_start("3", "a", profile=LARGE)], "asked again, tried again"


def test_a_retry_is_of_one_profile() -> None:
    story = Story("a")
    failure = Failure(ErrorCode.DEVICE_UNREACHABLE, "a cannot be reached.")
    story.tell(ModelRequested(BERT, kept=True), DeviceConnected("a"), *ready("1", "a"))
    assert story.tell(DeploymentFailed("2", failure))[-1] == ScheduleRetry("bert", 0.5, LARGE)
    assert story.tell(RetryDue("bert", SMALL)) == []
    assert story.tell(RetryDue("bert", LARGE)) == [_start("3", "a", profile=LARGE)]


def test_unloading_ends_every_profile() -> None:
    story = _serving()
    story.tell(RequestArrived(1, "bert", LARGE))
    told = story.tell(UnloadRequested("bert"))
    assert told == [Undeploy("1", ("a", "b")), ForgetModel("bert")]
    assert story.tell(RequestEnded(1, succeeded=True)) == [Undeploy("2", ("a", "b"))]


def test_unloading_abandons_the_profile_under_way() -> None:
    story = Story("a")
    story.tell(ModelRequested(BERT), DeviceConnected("a"), *ready("1", "a"))
    told = story.tell(UnloadRequested("bert"))
    assert told == [Undeploy("1", ("a",)), AbandonDeployment("2"), ForgetModel("bert")]
    assert not story.state.models


def test_what_was_imported_is_known_of_every_profile() -> None:
    story = Story("a")
    story.tell(ModelRequested(BERT), DeviceConnected("a"))
    interfaces = tuple(Interface((TensorSpec("ids", (1, length), ElementType.INT64),), ()) for length in (64, 128))
    story.tell(ModelImported("bert", interfaces))
    assert story.state.models["bert"].interfaces == interfaces
