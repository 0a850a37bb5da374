"""After a restart the state goes on with the deployments of the run before, where the devices are there for it."""

from __future__ import annotations

from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.events import (
    DeploymentPlanned,
    DeploymentReady,
    DeviceConnected,
    DeviceLost,
    GraceEnded,
    ModelRequested,
    PlanSummary,
    RequestArrived,
    Resumable,
    ResumeFailed,
    UnloadRequested,
)
from flexpie.master.instructions import FailRequest, ForgetModel, StartDeployment, StartRequest, Undeploy
from flexpie.master.interface import Interface
from flexpie.master.records import ModelState
from tests.unit.master.story import CAT, DOG, Story, ready

INTERFACE = Interface((TensorSpec("x", (4,), ElementType.FLOAT32),), ())


def _restarted(*devices: str) -> Story:
    """The cat was served by a and b, when c was there as well."""
    story = Story(*devices)
    resumable = Resumable("old-1", frozenset({"a", "b"}), ("a", "b", "c"))
    assert story.tell(ModelRequested(CAT, interfaces=(INTERFACE,), resumable=(resumable,))) == []
    return story


def test_it_starts_as_soon_as_its_own_devices_are_there() -> None:
    story = _restarted("a", "b", "c")
    assert story.tell(DeviceConnected("b")) == []
    assert story.tell(DeviceConnected("a")) == [StartDeployment("old-1", CAT, ("a", "b"))]
    story.tell(*ready("old-1", "a", "b"))
    assert story.model() == (ModelState.READY, "")
    assert story.tell(DeviceConnected("c")) == [], "c was there when it was planned"


def test_requests_wait_for_it_from_the_first_moment() -> None:
    story = _restarted("a", "b")
    assert story.tell(RequestArrived(1, "cat")) == []
    story.tell(DeviceConnected("a"), DeviceConnected("b"))
    assert StartRequest(1, "old-1") in story.tell(*ready("old-1", "a", "b"))


def test_without_one_of_its_devices_it_is_planned_anew_when_the_grace_is_over() -> None:
    story = _restarted("a", "b")
    story.tell(DeviceConnected("a"), DeviceLost("b", "gone"), RequestArrived(1, "cat"))
    assert story.tell(GraceEnded()) == [Undeploy("old-1", ("a",)), StartDeployment("1", CAT, ("a",))]


def test_of_a_model_that_is_unloaded_nothing_stays_on_the_workers() -> None:
    story = _restarted("a", "b")
    story.tell(DeviceConnected("a"))
    assert story.tell(UnloadRequested("cat")) == [Undeploy("old-1", ("a",)), ForgetModel("cat")]


def test_what_waits_fails_when_no_device_comes() -> None:
    story = _restarted("a", "b")
    story.tell(RequestArrived(1, "cat"))
    ended, failed = story.tell(GraceEnded())
    assert ended == Undeploy("old-1", ()), "the master keeps nothing of it either"
    assert isinstance(failed, FailRequest)


def test_what_workers_cannot_resume_is_planned_anew_and_requests_go_on_waiting() -> None:
    story = _restarted("a", "b")
    story.tell(DeviceConnected("a"), DeviceConnected("b"), RequestArrived(1, "cat"))
    story.tell(DeploymentPlanned("old-1", PlanSummary(("a", "b"))))
    assert story.tell(ResumeFailed("old-1")) == [StartDeployment("1", CAT, ("a", "b"))]
    assert StartRequest(1, "1") in story.tell(*ready("1", "a", "b"))
    assert story.tell(DeploymentReady("old-1")) == []


def test_other_models_are_planned_when_all_devices_have_been_heard_of() -> None:
    story = _restarted("a", "b", "c")
    story.tell(ModelRequested(DOG))
    assert story.tell(DeviceConnected("a"), DeviceConnected("b")) == [StartDeployment("old-1", CAT, ("a", "b"))]
    assert story.tell(*ready("old-1", "a", "b")) == []
    assert story.tell(DeviceConnected("c")) == [StartDeployment("1", DOG, ("a", "b", "c"))]
