"""When what is to serve again is lost on its way too, one device serves until the plan over all is ready."""

from __future__ import annotations

import dataclasses

import pytest

from flexpie.core.errors import ErrorCode
from flexpie.core.strategy import SINGLE_DEVICE
from flexpie.master.events import (
    DeploymentFailed,
    DeploymentPlanned,
    DeploymentReady,
    DeviceAnswered,
    DeviceConnected,
    DeviceLost,
    LinkChecked,
    LinkName,
    ModelRequested,
    PeersReported,
    PlanSummary,
    RequestArrived,
    Resumable,
    RetryDue,
)
from flexpie.master.instructions import (
    AbandonDeployment,
    Instruction,
    Probe,
    ScheduleLinkCheck,
    ScheduleRetry,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.wire.framing import Failure
from tests.unit.master.story import CAT, Story, ready, serving

AB: LinkName = ("a", "b")
DIVIDED = PlanSummary(("a", "b", "c"), links=frozenset({AB, ("b", "a"), ("b", "c")}))


def _started(told: list[Instruction]) -> StartDeployment:
    (start,) = (item for item in told if isinstance(item, StartDeployment))
    return start


def _interrupted() -> tuple[Story, StartDeployment]:
    """A link breaks, and another one while the model is planned around the first; a request waits."""
    story = serving("a", "b", "c", "d")
    story.tell(DeviceLost("d", "gone"), DeploymentPlanned("2", DIVIDED), RequestArrived(1, "cat"))
    assert story.tell(PeersReported("a", frozenset("b"))) == [Probe("b")]
    told = story.tell(DeviceAnswered("b"))
    assert AbandonDeployment("2") in told
    return story, _started(told)


def test_the_attempt_after_an_interrupted_one_needs_no_links() -> None:
    story, start = _interrupted()
    assert (start.deployment, start.entry.scheme, start.interim) == ("3", SINGLE_DEVICE, True)
    assert (start.devices, start.missing) == (("a", "b", "c"), frozenset())
    told = story.tell(PeersReported("c", frozenset("a")), DeviceAnswered("a"))
    assert told == [Probe("a"), ScheduleLinkCheck(("c", "a"), 1.0)], "not abandoned again"
    told = story.tell(*ready("3", "b"))
    assert StartRequest(1, "3") in told


def test_all_devices_are_planned_in_as_soon_as_one_serves_and_it_serves_whatever_becomes_of_that() -> None:
    story, _ = _interrupted()
    full = StartDeployment("4", CAT, ("a", "b", "c"), missing=frozenset({AB}))
    assert full in story.tell(*ready("3", "b"))
    story.tell(DeploymentPlanned("4", PlanSummary(("a", "b", "c"), links=frozenset({("b", "c")}))))
    told = story.tell(PeersReported("b", frozenset("c")), DeviceAnswered("c"))
    again = dataclasses.replace(full, deployment="5", missing=frozenset({AB, ("b", "c")}))
    assert told[-2:] == [AbandonDeployment("4"), again], "on all devices: nobody waits"
    assert StartRequest(2, "3") in story.tell(RequestArrived(2, "cat"))
    story.tell(*ready("5", "a", "b", "c"))
    assert story.state.models["cat"].profiles[0].serving is not None
    assert story.tell(RequestArrived(3, "cat")) == [StartRequest(3, "5")]


def test_a_model_that_no_device_holds_alone_is_planned_over_all_again() -> None:
    story, _ = _interrupted()
    failure = Failure(ErrorCode.OUT_OF_MEMORY, "No device has room for it.")
    told = story.tell(DeploymentFailed("3", failure))
    assert told == [StartDeployment("4", CAT, ("a", "b", "c"), missing=frozenset({AB}))]
    assert StartRequest(1, "4") in story.tell(*ready("4", "a", "b", "c"))


def test_an_attempt_that_failed_since_peers_did_not_find_one_another_counts_as_interrupted() -> None:
    story = serving("a", "b", "c", "d")
    story.tell(DeviceLost("d", "gone"), DeploymentPlanned("2", DIVIDED))
    told = story.tell(DeploymentFailed("2", Failure(ErrorCode.DEVICE_UNREACHABLE, "b does not answer.")))
    assert ScheduleRetry("cat", 0.5) in told
    assert _started(story.tell(RetryDue("cat"))).interim


def test_a_model_that_never_worked_waits_for_its_plan() -> None:
    story = Story("a", "b", "c")
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "abc"))
    story.tell(DeploymentPlanned("1", DIVIDED), PeersReported("a", frozenset("b")))
    assert not _started(story.tell(DeviceAnswered("b"))).interim


def test_the_last_device_has_nothing_to_be_planned_in_afterwards() -> None:
    story = serving("a", "b", "c")
    story.tell(DeviceLost("c", "gone"))
    assert _started(story.tell(DeviceLost("b", "gone"))) == StartDeployment("3", CAT, ("a",))


def _resuming() -> Story:
    """The master was restarted; workers go on with what a run before it left on them, but a just misses b."""
    story = Story("a", "b", "c")
    resumable = Resumable("old-1", frozenset("abc"), ("a", "b", "c"))
    story.tell(ModelRequested(CAT, interfaces=(), resumable=(resumable,)), *map(DeviceConnected, "abc"))
    story.tell(DeploymentPlanned("old-1", DIVIDED))
    told = story.tell(PeersReported("a", frozenset("b")), DeviceAnswered("b"))
    assert told == [Probe("b"), ScheduleLinkCheck(AB, 1.0)]
    return story


def test_what_is_resumed_is_not_abandoned_for_a_link_that_was_missed_for_a_moment() -> None:
    story = _resuming()
    story.tell(DeploymentReady("old-1"))
    assert story.tell(LinkChecked(AB, works=True)) == []
    assert story.tell(RequestArrived(1, "cat")) == [StartRequest(1, "old-1")]


@pytest.mark.parametrize("built", [False, True])
def test_what_is_resumed_ends_when_the_check_finds_that_the_link_is_gone(built: bool) -> None:
    story = _resuming()
    if built:
        story.tell(DeploymentReady("old-1"))
    told = story.tell(LinkChecked(AB, works=False))
    assert told[:-1] == [
        ScheduleLinkCheck(AB, 1.0),
        Undeploy("old-1", ("a", "b", "c")) if built else AbandonDeployment("old-1"),
    ]
    assert _started(told).interim is not built
