"""What the master's state remembers of devices, models, deployments and requests."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.tensor import TensorSpec
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.events import DeploymentId, DeviceName, PlanSummary, RequestId
from flexpie.wire.framing import Failure


class DeviceState(enum.Enum):
    """Whether a device can be used."""

    CONNECTING = "connecting"
    """Not heard of yet, within the grace after the start."""
    CONNECTED = "connected"
    LEAVING = "leaving"
    """Connected, but shutting down: it finishes its requests and takes no new ones."""
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


class ModelState(enum.Enum):
    """Whether a model can be asked."""

    LOADING = "loading"
    READY = "ready"
    WAITING = "waiting"
    """For a device to connect."""
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass
class DeviceRecord:
    """A device of the cluster file."""

    name: DeviceName
    state: DeviceState = DeviceState.CONNECTING
    reason: str = ""
    worker_id: str = ""
    version: str = ""
    suspected: bool = False
    """Connected, but being probed: requests that need it wait."""


@dataclass
class DeploymentRecord:
    """One attempt to serve a model, from its start until it is removed."""

    id: DeploymentId
    model: str
    devices: tuple[DeviceName, ...]
    """What it was planned over."""
    plan: PlanSummary | None = None
    stage: str = "import"
    done: int = 0
    total: int = 0
    unit: str = ""
    resident_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    pushed_bytes: int = 0
    requests: set[RequestId] = field(default_factory=set)
    """In flight on it."""

    def needs(self, device: DeviceName) -> bool:
        """Whether it cannot go on without a device."""
        return device in (self.devices if self.plan is None else self.plan.participants)


@dataclass
class ModelRecord:
    """A model that is or was to be served."""

    entry: ModelEntry
    kept: bool
    wanted: bool = True
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    serving: DeploymentRecord | None = None
    building: DeploymentRecord | None = None
    failure: Failure | None = None
    """Why the last attempt failed."""
    failed_on: frozenset[DeviceName] | None = None
    """The devices it failed on: the same devices are not tried again without a reason."""
    attempts: int = 0
    """Failed in a row for a reason that may pass."""
    retrying: bool = False
    """Whether another attempt is scheduled."""
    was_ready: bool = False
    """Whether requests wait for it (it is being planned again) instead of being refused (it never worked)."""
    waiting: deque[RequestId] = field(default_factory=deque)
