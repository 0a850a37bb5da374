"""Devices that come and go, and links that do: used again when they are steady, later each time that they were not."""

from __future__ import annotations

import pytest

from flexpie.core.errors import ErrorCode
from flexpie.master.events import (
    DeploymentFailed,
    DeploymentPlanned,
    DeploymentReady,
    DeviceAnswered,
    DeviceConnected,
    DeviceLost,
    DeviceSettled,
    LinkChecked,
    LinkName,
    ModelRequested,
    PeersReported,
    PlanSummary,
    RequestArrived,
)
from flexpie.master.instructions import (
    HoldRequest,
    Probe,
    ScheduleLinkCheck,
    ScheduleRetry,
    ScheduleSettling,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.master.membership import LONGEST_SETTLING_SECONDS, LOSSES_COUNT_SECONDS
from flexpie.master.records import DeviceState
from flexpie.wire.framing import Failure
from tests.unit.master.story import CAT, Story, ready, serving

AB: LinkName = ("a", "b")


def test_a_device_that_returns_is_used_once_it_is_steady() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone", at=10), *ready("2", "a"))
    assert story.tell(DeviceConnected("b", at=11)) == [ScheduleSettling("b", 2, 0.5)]
    assert story.device("b")[0] is DeviceState.RETURNING
    assert story.tell(DeviceSettled("b", 2)) == [StartDeployment("3", CAT, ("a", "b"))]


def test_a_device_that_flaps_has_to_be_steady_for_longer_each_time_and_disturbs_nobody() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone", at=0), *ready("2", "a"), RequestArrived(1, "cat"))
    pauses = []
    for flap in range(8):
        (told,) = story.tell(DeviceConnected("b", at=flap))
        assert isinstance(told, ScheduleSettling)
        pauses.append(told.seconds)
        assert story.tell(DeviceLost("b", "gone", at=flap), DeviceSettled("b", told.connection)) == []
    assert pauses == [0.5, 1, 2, 4, 8, *[LONGEST_SETTLING_SECONDS] * 3]
    later = 8 + LOSSES_COUNT_SECONDS
    assert story.tell(DeviceConnected("b", at=later)) == [StartDeployment("3", CAT, ("a", "b"))]


def test_an_unsteady_device_is_better_than_none() -> None:
    story = serving("a", "b")
    story.tell(DeviceLost("b", "gone", at=0), *ready("2", "a"), DeviceConnected("b", at=1))
    story.tell(RequestArrived(1, "cat"))
    told = story.tell(DeviceLost("a", "gone", at=1.1))
    assert told == [HoldRequest(1), Undeploy("2", ()), StartDeployment("3", CAT, ("b",))]
    assert story.tell(*ready("3", "b")) == [StartRequest(1, "3")]
    assert story.tell(DeviceLost("b", "gone", at=2))[-1] != StartDeployment("4", CAT, ("a",))
    assert story.tell(DeviceConnected("a", at=3)) == [StartDeployment("4", CAT, ("a",))]


def _linked() -> Story:
    """Two devices that serve together, and a third one beside them."""
    story = Story("a", "b", "c")
    story.tell(*map(DeviceConnected, "abc"))
    story.tell(ModelRequested(CAT, kept=True))
    plan = PlanSummary(("a", "b", "c"), links=frozenset({AB, ("b", "c")}))
    story.tell(DeploymentPlanned("1", plan), DeploymentReady("1"))
    return story


def test_a_link_is_missing_once_the_device_behind_it_answers_the_master() -> None:
    story = _linked()
    story.tell(RequestArrived(1, "cat"))
    assert story.tell(PeersReported("a", frozenset("b"))) == [Probe("b")]
    assert story.tell(RequestArrived(2, "cat")) == [], "it waits"
    told = story.tell(DeviceAnswered("b"))
    start = StartDeployment("2", CAT, ("a", "b", "c"), missing=frozenset({AB}))
    assert told == [ScheduleLinkCheck(AB, 1.0), HoldRequest(1), Undeploy("1", ("a", "b", "c")), start]
    assert story.tell(*ready("2", "a", "b", "c")) == [StartRequest(1, "2"), StartRequest(2, "2")]
    assert story.tell(PeersReported("a", frozenset())) == []


def test_a_missing_link_is_used_again_when_it_works_and_later_each_time_that_it_fails() -> None:
    story = _linked()
    story.tell(PeersReported("a", frozenset("b")), DeviceAnswered("b"), *ready("2", "a", "b", "c"))
    assert story.tell(LinkChecked(AB, works=False)) == [ScheduleLinkCheck(AB, 1.0)]
    assert story.tell(LinkChecked(AB, works=True)) == [StartDeployment("3", CAT, ("a", "b", "c"))]
    plan = PlanSummary(("a", "b"), links=frozenset({AB}))
    story.tell(DeploymentPlanned("3", plan), DeploymentReady("3"), PeersReported("a", frozenset()))
    story.tell(PeersReported("a", frozenset("b")))
    assert story.tell(DeviceAnswered("b"))[0] == ScheduleLinkCheck(AB, 2.0)


def test_a_link_that_nothing_is_sent_over_disturbs_nobody() -> None:
    story = _linked()
    story.tell(RequestArrived(1, "cat"))
    assert story.tell(PeersReported("c", frozenset("a")), DeviceAnswered("a")) == [
        Probe("a"),
        ScheduleLinkCheck(("c", "a"), 1.0),
    ]


def test_a_device_that_is_gone_for_everybody_is_no_missing_link() -> None:
    story = _linked()
    story.tell(PeersReported("a", frozenset("b")), PeersReported("c", frozenset("b")))
    told = story.tell(DeviceLost("b", "silent"))
    assert told == [Undeploy("1", ("a", "c")), StartDeployment("2", CAT, ("a", "c"))]
    assert story.tell(LinkChecked(AB, works=True)) == []


def test_peers_that_do_not_find_one_another_while_they_are_built_are_planned_around() -> None:
    story = Story("a", "b")
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "ab"))
    story.tell(DeploymentPlanned("1", PlanSummary(("a", "b"), links=frozenset({AB}))))
    assert story.tell(PeersReported("a", frozenset("b"))) == [Probe("b")]
    failure = Failure(ErrorCode.DEVICE_UNREACHABLE, "b does not answer.")
    assert story.tell(DeploymentFailed("1", failure)) == [Probe("a"), ScheduleRetry("cat", 0.5)]
    told = story.tell(DeviceAnswered("b"))
    assert told[1:] == [StartDeployment("2", CAT, ("a", "b"), missing=frozenset({AB}))]


@pytest.mark.parametrize("state", [DeviceState.UNREACHABLE, DeviceState.REFUSED])
def test_what_a_device_that_was_never_there_says_counts_nothing(state: DeviceState) -> None:
    story = Story("a", "b")
    story.state.members.lose("b", state, "no", 0.0)
    assert story.state.members.records["b"].losses == []
