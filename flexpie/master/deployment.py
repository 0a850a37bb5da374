"""A deployment as the master runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.boundary import Boundary
from flexpie.core.program import MASTER, DeviceProgram
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
    outputs: tuple[TensorSpec, ...]
    """In the order of ``program.outputs``."""
    resident_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    """What it takes of each participant's memory."""
    max_requests: int = 0
    """That all participants have room for at once; 0 is not known."""
    pushed_bytes: int = 0
    """What had to be pushed for it."""
    boundary: Boundary = Boundary.FLOAT32
    """What float32 tensors are between devices: how far its answers may be from one device's."""

    def name_of(self, device: int) -> str:
        """The name of a device by its index."""
        return "the master" if device == MASTER else self.devices[device]
