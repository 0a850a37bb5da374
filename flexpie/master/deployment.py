"""A deployment as the master runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from flexpie.core.boundary import Boundary
from flexpie.core.program import MASTER, DeviceProgram, with_device
from flexpie.core.tensor import TensorSpec
from flexpie.core.turns import most_at_once, next_turn
from flexpie.master.events import DeploymentId, DeviceName

_MANY = 1024
"""Requests at once: more are not counted."""


@dataclass(frozen=True)
class Deployment:
    """A plan that workers are ready for, with the master's part of it."""

    id: DeploymentId
    model: str
    devices: tuple[DeviceName, ...]
    """By their index in the programs."""
    participants: tuple[int, ...]
    """Indices of the devices that have a program."""
    program: DeviceProgram
    """What the master does for a request."""
    outputs: tuple[TensorSpec, ...]
    """In the order of ``program.outputs``."""
    resident_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    """What it takes of each participant's memory."""
    room: Mapping[int, int] = field(default_factory=dict)
    """How many requests each participant has room for at once, where it is known."""
    pushed_bytes: int = 0
    """What had to be pushed for it."""
    boundary: Boundary = Boundary.FLOAT32
    """What float32 tensors are between devices: how far its answers may be from one device's."""
    turns: Mapping[int, float] = field(default_factory=dict)
    """Where each request is answered by one participant (`flexpie.core.turns`): what part of them each answers."""

    @property
    def names(self) -> tuple[DeviceName, ...]:
        """Of the participants, in their order."""
        return tuple(self.devices[index] for index in self.participants)

    @property
    def max_requests(self) -> int:
        """That the participants have room for at once; 0 is not known."""
        room = {device: requests for device, requests in self.room.items() if device in self.participants}
        if not self.turns:
            return min(room.values(), default=0)
        return most_at_once(self.turns, room, _MANY) if room else 0

    def turn(self, running: Mapping[int, int]) -> Deployment:
        """What the next request runs on, if so many of each participant's own are under way: the participant whose
        turn it is, or all of them together."""
        return self._each[next_turn(self.turns, running)] if self.turns else self

    @cached_property
    def _each(self) -> Mapping[int, Deployment]:
        """By participant: the deployment as if it were the only one."""
        return {
            device: replace(self, participants=(device,), program=with_device(self.program, device), turns={})
            for device in self.turns
        }

    def without(self, name: DeviceName) -> Deployment:
        """Where participants take turns: the others, which answer that one's part too. One that takes none is no
        loss."""
        turns = {device: part for device, part in self.turns.items() if self.devices[device] != name}
        whole = sum(turns.values())
        parts = {device: part / whole for device, part in turns.items()}
        return replace(self, participants=tuple(turns), turns=parts)

    def name_of(self, device: int) -> str:
        """The name of a device by its index."""
        return "the master" if device == MASTER else self.devices[device]
