"""A deployment as the master runs it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.program import MASTER, DeviceProgram, Receive, Send
from flexpie.core.tensor import TensorSpec
from flexpie.master.events import DeploymentId, DeviceName


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
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    """In the order of ``program.outputs``."""
    resident_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    """What it takes of each participant's memory."""
    pushed_bytes: int = 0
    """What had to be pushed for it."""

    @functools.cached_property
    def scattered_bytes(self) -> int:
        """Payload that the master sends for a request."""
        parts = [part for step in self.program.steps if isinstance(step, Send) for part in step.parts]
        return sum(part.region.size * self.program.values[part.value].dtype.itemsize for part in parts)

    @functools.cached_property
    def gathered_bytes(self) -> int:
        """Payload that the master receives for a request."""
        receives = [step for step in self.program.steps if isinstance(step, Receive)]
        return sum(self.program.values[value].nbytes for step in receives for value in step.values)

    def name_of(self, device: int) -> str:
        """The name of a device by its index."""
        return "the master" if device == MASTER else self.devices[device]
