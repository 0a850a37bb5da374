"""Stories for tests of the master's decisions: events told to a state, which must stay consistent."""

from __future__ import annotations

from pathlib import Path

from flexpie.core.errors import ErrorCode
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.events import (
    DeploymentPlanned,
    DeploymentReady,
    DeviceConnected,
    Event,
    ModelRequested,
    PlanSummary,
)
from flexpie.master.instructions import FailRequest, Instruction
from flexpie.master.records import DeviceState, ModelState
from flexpie.master.state import MasterState

CAT = ModelEntry("cat", Path("/models/cat.onnx"))
LATER = 3600.0
"""When nobody remembers any more that a device was lost at the beginning."""
DOG = ModelEntry("dog", Path("/models/dog.onnx"))


class Story:
    """A state, and what it said last."""

    def __init__(self, *devices: str, standby: bool = False) -> None:
        self.state = MasterState(devices, standby=standby)

    def tell(self, *events: Event) -> list[Instruction]:
        """Let something happen; returns what is to be done."""
        instructions = self.state.handle(*events)
        self._check_invariants()
        return instructions

    def failures(self, *events: Event) -> list[tuple[int, ErrorCode]]:
        """Requests that these events fail, and why."""
        told = self.tell(*events)
        return [(item.request, item.failure.code) for item in told if isinstance(item, FailRequest)]

    def device(self, name: str) -> tuple[DeviceState, str]:
        """State and reason of a device."""
        return self.state.members.records[name].state, self.state.members.records[name].reason

    def model(self, name: str = "cat") -> tuple[ModelState, str]:
        """State and reason of a model."""
        return self.state.describe(self.state.models[name])

    def _check_invariants(self) -> None:
        state, found = self.state, []
        profiles = [profile for model in state.models.values() for profile in model.profiles]
        assert sum(profile.building is not None for profile in profiles) <= 1
        for profile in profiles:
            found += list(profile.waiting)
            if profile.waiting:
                assert (
                    profile.building
                    or profile.retrying
                    or profile.serving
                    or profile.resumable
                    or self._another_is_deployed()
                )
            if profile.serving:
                found += list(profile.serving.requests)
                assert profile.serving.plan
                assert set(profile.serving.plan.participants) <= set(state.members.connected)
            for lost, standby in profile.standbys.ready.items():
                assert not standby.requests
                assert standby.plan
                assert lost not in standby.devices
                assert set(standby.plan.participants) <= set(state.members.connected)
        for deployment in state.retiring.values():
            assert deployment.requests, "a replaced deployment without requests is still there"
            found += list(deployment.requests)
        assert sorted(found) == sorted(state.requests)

    def _another_is_deployed(self) -> bool:
        """Whether another profile has its turn to be deployed."""
        return any(other.building for model in self.state.models.values() for other in model.profiles)


def ready(deployment: str, *participants: str) -> tuple[Event, ...]:
    """A deployment is planned over these devices, and then ready."""
    return DeploymentPlanned(deployment, PlanSummary(participants)), DeploymentReady(deployment)


def serving(*devices: str, on: tuple[str, ...] = ()) -> Story:
    """All devices connected and the model ready on some of them, as deployment 1."""
    story = Story(*devices)
    story.tell(ModelRequested(CAT, kept=True), *map(DeviceConnected, devices), *ready("1", *(on or devices)))
    assert story.model() == (ModelState.READY, "")
    return story
