"""A plan that serves is replaced by a better one beside it."""

from __future__ import annotations

from flexpie.core.errors import ErrorCode
from flexpie.master.events import DeploymentFailed, DeviceLost, ReplanWanted, RequestArrived, RequestEnded
from flexpie.master.instructions import StartDeployment, StartRequest, Undeploy
from flexpie.wire.framing import Failure
from tests.unit.master.story import CAT, ready, serving


def test_the_old_plan_serves_until_the_new_one_is_ready_and_ends_with_its_last_request() -> None:
    story = serving("a", "b")
    story.tell(RequestArrived(1, "cat"))
    assert story.tell(ReplanWanted("1")) == [StartDeployment("2", CAT, ("a", "b"))]
    assert story.tell(ReplanWanted("1")) == [], "it is on its way"
    assert story.tell(RequestArrived(2, "cat")) == [StartRequest(2, "1")]
    assert story.tell(*ready("2", "a", "b")) == []
    assert story.tell(RequestArrived(3, "cat")) == [StartRequest(3, "2")]
    assert story.tell(RequestEnded(1, succeeded=True)) == []
    assert story.tell(RequestEnded(2, succeeded=True)) == [Undeploy("1", ("a", "b"))]


def test_one_device_instead_of_several_stays_until_the_devices_change() -> None:
    story = serving("a", "b")
    told = story.tell(ReplanWanted("1", "b", "dividing does not pay"))
    assert told == [StartDeployment("2", CAT, ("a", "b"), only="b", remark="dividing does not pay")]
    assert story.tell(*ready("2", "b")) == [Undeploy("1", ("a", "b"))]
    assert story.tell(DeviceLost("a", "gone")) == []
    assert story.tell(DeviceLost("b", "gone")) == [Undeploy("2", ())]


def test_one_device_that_is_lost_is_not_planned_for() -> None:
    story = serving("a", "b", on=("a",))
    story.tell(DeviceLost("b", "gone"))
    assert story.tell(ReplanWanted("1", "b")) == []


def test_a_better_plan_that_cannot_be_built_changes_nothing() -> None:
    story = serving("a", "b")
    story.tell(ReplanWanted("1"))
    assert story.tell(DeploymentFailed("2", Failure(ErrorCode.OUT_OF_MEMORY, "no"))) == []
    assert story.tell(RequestArrived(1, "cat")) == [StartRequest(1, "1")]
    assert story.tell(ReplanWanted("1")) == [StartDeployment("3", CAT, ("a", "b"))], "later it is tried again"


def test_news_of_a_deployment_that_serves_no_more_is_ignored() -> None:
    assert serving("a", "b").tell(ReplanWanted("7")) == []
