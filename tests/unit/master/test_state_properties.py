"""Whatever happens in whatever order: every request that was accepted ends once, and none waits for nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.errors import ErrorCode
from flexpie.master.events import (
    CalmReturned,
    DeploymentFailed,
    DeploymentPlanned,
    DeploymentReady,
    DeviceAnswered,
    DeviceConnected,
    DeviceLeft,
    DeviceLost,
    DeviceSettled,
    Event,
    LinkChecked,
    ModelRequested,
    PauseEnded,
    PeersReported,
    PlanSummary,
    RequestArrived,
    RequestDisturbed,
    RequestEnded,
    RetryDue,
)
from flexpie.master.instructions import (
    AbandonDeployment,
    FailRequest,
    HoldRequest,
    Instruction,
    Probe,
    ScheduleCalm,
    ScheduleLinkCheck,
    SchedulePause,
    ScheduleRetry,
    ScheduleSettling,
    StartDeployment,
    StartRequest,
)
from flexpie.master.records import DeviceState
from flexpie.wire.framing import Failure
from tests.unit.master.story import CAT, DOG, Story

DEVICES = ("a", "b", "c")
EVENTS = ("ask", "ask", "answer", "disturb", "lose", "connect", "leave", "report", "build", "fail", "due")
FULL = Failure(ErrorCode.OUT_OF_MEMORY, "There is no room.")
BROKEN = Failure(ErrorCode.DEVICE_UNREACHABLE, "A link broke.")


class World:
    """Devices, clients and timers around a state: what the daemon would do, in any order."""

    def __init__(self, generator: random.Random) -> None:
        self.story = Story(*DEVICES, standby=generator.random() < 0.5)
        self.random = generator
        self.running: dict[int, str] = {}
        """Deployments by the request that runs on them."""
        self.held: set[int] = set()
        self.ended: list[int] = []
        self.building: StartDeployment | None = None
        self.planned = False
        self.due: list[Event] = []
        """What timers and probes will say."""
        self.now = 0.0
        self.healed = False
        """Whether links that are checked from now on work."""
        self.numbers = iter(range(1, 10**6))
        self.tell(ModelRequested(CAT, kept=True), ModelRequested(DOG, kept=True), *map(DeviceConnected, DEVICES))

    def tell(self, *events: Event) -> None:
        for instruction in self.story.tell(*events):
            self.carry_out(instruction)

    def carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case StartDeployment():
                assert self.building is None
                self.building, self.planned = instruction, False
            case AbandonDeployment(deployment):
                assert self.building
                assert self.building.deployment == deployment
                self.building = None
            case StartRequest(request, deployment):
                assert request in self.held
                self.held.remove(request)
                self.running[request] = deployment
            case HoldRequest(request):
                del self.running[request]
                self.held.add(request)
            case FailRequest(request):
                assert request in self.held or request in self.running
                self.end(request)
            case Probe(device):
                self.due.append(DeviceAnswered(device))
            case ScheduleSettling(device, connection):
                self.due.append(DeviceSettled(device, connection))
            case ScheduleLinkCheck(link):
                self.due.append(LinkChecked(link, works=self.healed or self.random.random() < 0.5))
            case ScheduleRetry(model, _, profile):
                self.due.append(RetryDue(model, profile))
            case ScheduleCalm(loss):
                self.due.append(CalmReturned(loss))
            case SchedulePause(deployment):
                self.due.append(PauseEnded(deployment))

    def end(self, request: int) -> None:
        self.held.discard(request)
        self.running.pop(request, None)
        self.ended.append(request)

    def step(self) -> None:
        """Let something happen that may happen now."""
        states = {name: record.state for name, record in self.story.state.members.records.items()}
        device = self.random.choice(DEVICES)
        match self.random.choice(
            ("ask", "ask", "answer", "disturb", "lose", "connect", "leave", "build", "fail", "due")
        ):
            case "ask":
                self.ask()
            case "answer" if self.running:
                self.answer()
            case "disturb" if self.running:
                request = self.random.choice(sorted(self.running))
                self.tell(RequestDisturbed(request, self.running[request], BROKEN))
            case "lose":
                self.tell(DeviceLost(device, "gone", self.time()))
            case "leave" if states[device] is DeviceState.CONNECTED:
                self.tell(DeviceLeft(device))
            case "connect" if states[device] is DeviceState.UNREACHABLE:
                self.tell(DeviceConnected(device, at=self.time()))
            case "report":
                others = [name for name in DEVICES if name != device]
                self.tell(PeersReported(device, frozenset(self.random.sample(others, self.random.randint(0, 2)))))
            case "build" if self.building:
                self.build()
            case "fail" if self.building:
                deployment, self.building = self.building.deployment, None
                self.tell(DeploymentFailed(deployment, self.random.choice((BROKEN, FULL))))
            case "due" if self.due:
                self.tell(self.due.pop(self.random.randrange(len(self.due))))

    def time(self) -> float:
        self.now += self.random.choice((0.1, 1.0, 100.0))
        return self.now

    def ask(self) -> None:
        request = next(self.numbers)
        self.held.add(request)
        self.tell(RequestArrived(request, self.random.choice(("cat", "dog"))))

    def answer(self) -> None:
        request = self.random.choice(sorted(self.running))
        self.end(request)
        self.tell(RequestEnded(request, succeeded=True))

    def build(self) -> None:
        """The deployment under way comes one step further."""
        start = self.building
        assert start is not None
        if self.planned:
            self.building = None
            self.tell(DeploymentReady(start.deployment))
            return
        self.planned = True
        devices = self.random.sample(start.devices, self.random.randint(1, len(start.devices)))
        pairs = [(source, end) for source in devices for end in devices if source != end]
        links = frozenset(pair for pair in pairs if pair not in start.missing and self.random.random() < 0.7)
        self.tell(DeploymentPlanned(start.deployment, PlanSummary(tuple(devices), links=links)))


@given(st.integers(0, 2**32), st.integers(10, 150))
def test_every_request_ends_exactly_once(seed: int, steps: int) -> None:
    world = World(random.Random(seed))
    for _ in range(steps):
        world.step()
    world.healed = True
    for _ in range(400):  # from now on nothing breaks any more
        if world.building:
            world.build()
        elif world.due:
            world.tell(world.due.pop(0))
        elif world.running:
            world.answer()
        else:
            break
    assert not world.held, "requests that wait for nothing"
    assert not world.running
    assert len(world.ended) == len(set(world.ended))
    assert len(world.ended) == next(world.numbers) - 1
    assert not world.story.state.requests
    assert not world.story.state.retiring
    assert len(world.story.state.reruns) == 0
