"""What is prepared for the loss of a device: made when nothing else is to be done, and served at once."""

from __future__ import annotations

from flexpie.core.errors import ErrorCode
from flexpie.master.events import (
    CalmReturned,
    DeploymentFailed,
    DeploymentPlanned,
    DeploymentReady,
    DeviceConnected,
    DeviceLost,
    DrainEnded,
    ModelRequested,
    PlanOutdated,
    PlanSummary,
    RequestArrived,
    RequestEnded,
    ShutdownRequested,
    StageReached,
    UnloadRequested,
)
from flexpie.master.instructions import (
    AbandonDeployment,
    HoldRequest,
    PromoteStandby,
    ScheduleCalm,
    ScheduleRetry,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.master.standby_keeper import CALM_SECONDS
from flexpie.wire.framing import Failure
from tests.unit.master.story import CAT, DOG, LATER, Story, ready

FULL = Failure(ErrorCode.OUT_OF_MEMORY, "There is no room.")


def _standby(deployment: str, *devices: str, pushed_only: bool = False) -> StartDeployment:
    return StartDeployment(deployment, CAT, devices, standby=True, pushed_only=pushed_only)


def _prepared() -> Story:
    """A model on three devices (1), with standbys for the loss of a (2), b (3) and c (4)."""
    story = Story("a", "b", "c", standby=True)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "abc"))
    assert story.tell(*ready("1", "a", "b", "c")) == [_standby("2", "b", "c")]
    assert story.tell(*ready("2", "b", "c")) == [_standby("3", "a", "c")]
    assert story.tell(*ready("3", "a", "c")) == [_standby("4", "a", "b")]
    assert story.tell(*ready("4", "a", "b")) == []
    return story


def test_requests_of_a_lost_device_go_on_at_once_on_what_was_prepared() -> None:
    story = _prepared()
    story.tell(RequestArrived(1, "cat"))
    told = story.tell(DeviceLost("b", "gone"))
    assert told == [
        ScheduleCalm(1, CALM_SECONDS),
        Undeploy("2", ("c",)),
        Undeploy("4", ("a",)),
        HoldRequest(1),
        Undeploy("1", ("a", "c")),
        PromoteStandby("3"),
        StartRequest(1, "3"),
    ]
    assert story.tell(CalmReturned(1)) == [StartDeployment("5", CAT, ("c",), standby=True)]


def test_the_next_loss_is_prepared_for_when_nothing_was_lost_for_a_while() -> None:
    story = _prepared()
    story.tell(DeviceLost("b", "gone"))
    assert story.tell(DeviceLost("a", "gone"))[0] == ScheduleCalm(2, CALM_SECONDS)
    assert story.tell(CalmReturned(1)) == []


def test_the_full_plan_returns_with_the_device_and_standbys_are_made_anew() -> None:
    story = _prepared()
    story.tell(DeviceLost("b", "gone"), CalmReturned(1), *ready("5", "c"))
    told = story.tell(DeviceConnected("b", at=LATER))
    assert told == [AbandonDeployment("6"), StartDeployment("7", CAT, ("a", "b", "c"))]
    assert story.tell(RequestArrived(1, "cat")) == [StartRequest(1, "3")]
    told = story.tell(*ready("7", "a", "b", "c"))
    assert told == [Undeploy("5", ("c",)), _standby("8", "b", "c")]


def test_a_standby_gives_way_to_a_model_that_is_to_serve() -> None:
    story = Story("a", "b", standby=True)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "ab"))
    assert story.tell(*ready("1", "a", "b")) == [_standby("2", "b")]
    assert story.tell(ModelRequested(DOG)) == [AbandonDeployment("2"), StartDeployment("3", DOG, ("a", "b"))]
    assert story.tell(*ready("2", "b")) == [], "news of what was given up"
    assert story.tell(*ready("3", "a", "b")) == [_standby("4", "b")]


def test_what_does_not_fit_beside_the_others_is_pushed_only() -> None:
    story = Story("a", "b", standby=True)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "ab"))
    story.tell(DeploymentPlanned("1", PlanSummary(("a",))))
    told = story.tell(DeploymentReady("1", {"a": 70}))
    assert told == [StartDeployment("2", CAT, ("b",), {"a": 70}, standby=True)]
    assert story.tell(DeploymentFailed("2", FULL)) == [_standby("3", "b", pushed_only=True)]
    assert story.tell(*ready("3", "b")) == [], "nothing more can be prepared"
    told = story.tell(DeviceLost("a", "gone"))
    assert told[1:] == [Undeploy("1", ()), StartDeployment("4", CAT, ("b",))]


def test_standbys_make_room_for_what_is_to_serve() -> None:
    story = _prepared()
    story.tell(ModelRequested(DOG))
    story.tell(DeploymentPlanned("5", PlanSummary(("a",))), StageReached("5", "build", 0, 1, "devices"))
    told = story.tell(DeploymentFailed("5", FULL))
    dropped = [Undeploy("2", ("b", "c")), Undeploy("3", ("a", "c")), Undeploy("4", ("a", "b"))]
    assert told[:4] == [*dropped, ScheduleRetry("dog", 0.5)]


def test_a_device_that_takes_no_part_needs_no_standby() -> None:
    story = Story("a", "b", standby=True)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "ab"))
    assert story.tell(*ready("1", "a")) == [_standby("2", "b")]
    assert story.tell(*ready("2", "b")) == []


def test_standbys_go_with_their_model_and_with_the_master() -> None:
    story = _prepared()
    told = story.tell(UnloadRequested("cat"))
    assert [item.deployment for item in told if isinstance(item, Undeploy)] == ["2", "3", "4", "1"]
    story = _prepared()
    told = story.tell(ShutdownRequested(), DrainEnded())
    assert [item.deployment for item in told if isinstance(item, Undeploy)] == ["2", "3", "4", "1"]


def test_a_standby_that_is_better_serves_at_once_and_the_best_plan_later() -> None:
    story = _prepared()
    story.tell(RequestArrived(1, "cat"))
    full = StartDeployment("5", CAT, ("a", "b", "c"))
    assert story.tell(PlanOutdated("1", "3")) == [PromoteStandby("3"), full]
    assert story.tell(RequestArrived(2, "cat")) == [StartRequest(2, "3")]
    assert story.tell(RequestEnded(1, succeeded=True)) == [Undeploy("1", ("a", "b", "c"))]
    assert story.tell(RequestEnded(2, succeeded=True)) == []
    told = story.tell(*ready("5", "a", "b", "c"))
    assert told == [Undeploy("3", ("a", "c")), Undeploy("2", ("b", "c")), _standby("6", "b", "c")]


def test_a_standby_that_is_as_good_as_the_best_plan_stays() -> None:
    story = _prepared()
    told = story.tell(PlanOutdated("1", "3", standby_suffices=True))
    assert told[:2] == [PromoteStandby("3"), Undeploy("1", ("a", "b", "c"))]
    assert told[2:] == [Undeploy("2", ("b", "c")), _standby("5", "b", "c")], "the others are made anew"
    told = story.tell(*ready("5", "b", "c"))
    assert told == [Undeploy("4", ("a", "b")), _standby("6", "a", "b")]
    assert story.tell(*ready("6", "a", "b")) == []


def test_a_standby_that_has_gone_meanwhile_is_not_waited_for() -> None:
    story = _prepared()
    story.tell(DeviceLost("b", "gone"), CalmReturned(1), *ready("5", "c"))
    assert story.tell(PlanOutdated("3", "2")) == [AbandonDeployment("6"), StartDeployment("7", CAT, ("a", "c"))]


def test_a_standby_of_another_time_serves_until_a_plan_for_now_is_ready() -> None:
    story = _prepared()
    story.tell(PlanOutdated("1"))
    told = story.tell(DeviceLost("c", "gone"))
    assert PromoteStandby("4") in told
    assert told[-1] == StartDeployment("6", CAT, ("a", "b"))
    assert story.tell(*ready("6", "a", "b")) == [Undeploy("4", ("a", "b"))]


def test_a_standby_on_its_way_is_begun_again_when_the_cluster_is_another() -> None:
    story = Story("a", "b", "c", standby=True)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "abc"), *ready("1", "a", "b", "c"))
    told = story.tell(PlanOutdated("1"))
    assert told == [AbandonDeployment("2"), StartDeployment("3", CAT, ("a", "b", "c"))]
    assert story.tell(*ready("3", "a", "b", "c")) == [Undeploy("1", ("a", "b", "c")), _standby("4", "b", "c")]
