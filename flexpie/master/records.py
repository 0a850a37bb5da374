"""What the master's state remembers of devices, models, deployments and requests."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from flexpie.master.cluster_file import ModelEntry
from flexpie.master.deployment_record import DeploymentRecord
from flexpie.master.events import DeviceName, LinkName, PlanDistrusted, ReplanWanted, RequestId, Resumable
from flexpie.master.interface import Interface
from flexpie.master.standbys import Standbys
from flexpie.wire.framing import Failure

Situation = tuple[frozenset[DeviceName], frozenset[LinkName]]
"""What a plan has to do with: the devices that can be used, and the links that cannot."""


class DeviceState(enum.Enum):
    """Whether a device can be used."""

    CONNECTING = "connecting"
    """Not heard of yet, within the grace after the start."""
    RETURNING = "returning"
    """Connected again after it was lost, and not yet steady enough to be used."""
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
    connections: int = 0
    """Made so far."""
    losses: list[float] = field(default_factory=list)
    """When it was lost lately, in seconds."""


@dataclass
class ProfileRecord:
    """One set of input shapes of a model: planned, deployed and replaced on its own."""

    model: ModelRecord = field(repr=False)
    index: int
    """In the model's entry."""
    serving: DeploymentRecord | None = None
    building: DeploymentRecord | None = None
    failure: Failure | None = None
    """Why the last attempt failed."""
    failed_on: Situation | None = None
    """What it failed on: the same devices and links are not tried again without a reason."""
    attempts: int = 0
    """Failed in a row for a reason that may pass."""
    retrying: bool = False
    """Whether another attempt is scheduled."""
    was_ready: bool = False
    """Whether requests wait for it (it is being planned again) instead of being refused (it never worked)."""
    interrupted: bool = False
    """Whether what was to serve it again was itself lost on its way: the next attempt is the quickest one."""
    waiting: deque[RequestId] = field(default_factory=deque)
    replan: ReplanWanted | None = None
    """Why there is to be another plan although this one serves."""
    standbys: Standbys = field(default_factory=Standbys)
    """What it can be switched to when it loses a device."""
    distrusted: PlanDistrusted | None = None
    """Why it is not divided any more, until it is loaded again."""
    resumable: Resumable | None = None
    """A deployment of an earlier run of the master, which is tried first."""

    @property
    def name(self) -> str:
        """How messages name it: the model, and where that has several profiles its shapes."""
        entry = self.model.entry
        return entry.name if len(entry.profiles) == 1 else f"{entry.name} with {entry.describe(self.index)}"


class ModelRecord:
    """A model that is or was to be served."""

    def __init__(self, entry: ModelEntry, kept: bool) -> None:
        self.entry = entry
        self.kept = kept
        """Whether it stays known after it is unloaded, because the cluster file names it."""
        self.wanted = True
        self.interfaces: tuple[Interface, ...] = ()
        """One per profile, once the file was read."""
        self.profiles = tuple(ProfileRecord(self, index) for index in range(len(entry.profiles)))

    @property
    def ready(self) -> bool:
        """Whether it takes requests of every profile."""
        return all(profile.serving is not None for profile in self.profiles)
