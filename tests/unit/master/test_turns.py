"""Where devices take turns, the loss of one concerns its own requests only."""

from __future__ import annotations

from dataclasses import replace

from flexpie.core.program import MASTER, DeviceProgram, Feed, Receive, Send
from flexpie.core.strategy import DATA_PARALLEL
from flexpie.master.deployment import Deployment
from flexpie.master.events import (
    DeploymentPlanned,
    DeploymentReady,
    DeviceConnected,
    DeviceLeft,
    DeviceLost,
    ModelRequested,
    PlanSummary,
    RequestArrived,
    RequestEnded,
    SegmentSummary,
)
from flexpie.master.instructions import EndTurns, StartDeployment, StartRequest, Undeploy
from tests.unit.master.story import CAT, LATER, Story

PROGRAM = DeviceProgram(MASTER, (), (Feed(0), Send(0, 0, ()), Receive(1, 0, (1,))), (1,))


def _deployment() -> Deployment:
    return Deployment("d-1", "cat", ("a", "b", "c"), (0, 2), PROGRAM, (), turns={0: 0.25, 2: 0.75})


def test_the_device_whose_turn_it_is_gets_the_whole_request() -> None:
    first = _deployment().turn({})
    assert (first.id, first.participants, first.turns) == ("d-1", (2,), {})
    assert first.program.steps == (Feed(0), Send(0, 2, ()), Receive(1, 2, (1,)))
    assert _deployment().turn({2: 3}).participants == (0,)
    assert first.turn({}) is first


def test_there_is_room_for_what_each_device_has_room_for() -> None:
    turns = replace(_deployment(), room={0: 2, 2: 3})
    assert turns.max_requests == 4, "the fourth one of device 2 would be next"
    assert turns.without("c").max_requests == 2
    assert replace(turns, turns={}).max_requests == 2, "together each has every request"
    assert _deployment().max_requests == 0, "nobody knows"


def test_the_others_answer_the_part_of_a_device_that_is_gone() -> None:
    left = _deployment().without("c")
    assert (left.participants, left.turns) == ((0,), {0: 1.0})
    assert left.turn({0: 9}).participants == (0,)


def _turns(*participants: str) -> PlanSummary:
    shares = tuple(float(name in participants) for name in "abc")
    return PlanSummary(participants, (SegmentSummary(("conv",), DATA_PARALLEL, shares, 0.1, 0.0, 0),))


def _serving() -> Story:
    story = Story("a", "b", "c", standby=True)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, "abc"))
    assert story.tell(DeploymentPlanned("1", _turns("a", "b", "c")), DeploymentReady("1")) == [], "no standbys"
    return story


def test_requests_go_on_without_a_lost_device() -> None:
    story = _serving()
    story.tell(RequestArrived(1, "cat"))
    told = story.tell(DeviceLost("b", "gone"))
    assert told[0] == EndTurns("1", "b", lost=True)
    assert not any(isinstance(item, StartDeployment | Undeploy) for item in told)
    assert story.tell(RequestArrived(2, "cat")) == [StartRequest(2, "1")]


def test_a_device_that_leaves_finishes_its_requests_unless_it_is_lost() -> None:
    story = _serving()
    assert story.tell(DeviceLeft("b"))[0] == EndTurns("1", "b", lost=False)
    assert EndTurns("1", "b", lost=True) in story.tell(DeviceLost("b", "gone"))


def test_a_device_that_returns_is_planned_in_and_freed_of_what_it_had() -> None:
    story = _serving()
    story.tell(DeviceLost("b", "gone"))
    assert story.tell(DeviceConnected("b", at=LATER)) == [StartDeployment("2", CAT, ("a", "b", "c"))]
    told = story.tell(DeploymentPlanned("2", _turns("a", "b", "c")), DeploymentReady("2"))
    assert told == [Undeploy("1", ("a", "c", "b"))]


def test_the_last_device_cannot_be_done_without() -> None:
    story = _serving()
    story.tell(RequestArrived(1, "cat"), DeviceLost("b", "gone"), DeviceLost("c", "gone"))
    told = story.tell(DeviceLost("a", "gone"))
    assert Undeploy("1", ()) in told
    assert not any(isinstance(item, EndTurns) for item in told)


def test_what_retires_goes_on_without_a_lost_device_too() -> None:
    story = _serving()
    story.tell(RequestArrived(1, "cat"), DeviceLost("b", "gone"), DeviceConnected("b", at=LATER))
    assert story.tell(DeploymentPlanned("2", _turns("a", "b", "c")), DeploymentReady("2")) == []
    told = story.tell(DeviceLost("c", "gone", at=LATER))
    assert [item for item in told if isinstance(item, EndTurns)] == [
        EndTurns("2", "c", lost=True), EndTurns("1", "c", lost=True)
    ]  # fmt: skip
    assert story.tell(RequestEnded(1, succeeded=True)) == [Undeploy("1", ("a", "b"))]
