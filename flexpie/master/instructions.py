"""What the master's state wants done, in the imperative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.master.cluster_file import ModelEntry
from flexpie.master.events import DeploymentId, DeviceName, LinkName, ModelName, PlanDistrusted, RequestId
from flexpie.wire.framing import Failure


@dataclass(frozen=True, slots=True)
class StartDeployment:
    """Import, plan, compile, push and build a profile of a model over these devices."""

    deployment: DeploymentId
    entry: ModelEntry
    devices: tuple[DeviceName, ...]
    """Connected devices, in the order of the cluster file."""
    reserved_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    """Memory that other deployments hold on them, those of the model's other profiles included."""
    profile: int = 0
    """Index of the profile."""
    siblings: tuple[int, ...] = ()
    """Indices of the model's profiles that are still to be deployed, and need memory too."""
    missing: frozenset[LinkName] = frozenset()
    """Links between them that do not work."""
    only: DeviceName = ""
    """The one device to plan for; empty for all."""
    remark: str = ""
    """What users should know about it."""
    standby: bool = False
    """Whether it is made for the time after a device is lost, in the background."""
    pushed_only: bool = False
    """Whether to push it only, because there is no room to build it beside what runs."""
    interim: bool = False
    """Whether it only serves until the plan over all devices is ready; a restarted master does not go on with it."""


@dataclass(frozen=True, slots=True)
class PromoteStandby:
    """A standby serves from now on."""

    deployment: DeploymentId


@dataclass(frozen=True, slots=True)
class EndTurns:
    """A device answers no more requests of a deployment whose devices take turns; others answer them."""

    deployment: DeploymentId
    device: DeviceName
    lost: bool
    """Whether it does not finish those under way either."""


@dataclass(frozen=True, slots=True)
class AbandonDeployment:
    """Stop a deployment under way and remove what there is of it."""

    deployment: DeploymentId


@dataclass(frozen=True, slots=True)
class Undeploy:
    """Remove a deployment from its participants."""

    deployment: DeploymentId
    devices: tuple[DeviceName, ...]
    """Those that are still connected."""


@dataclass(frozen=True, slots=True)
class ForgetModel:
    """Drop what was read of a model."""

    model: ModelName


@dataclass(frozen=True, slots=True)
class RememberDistrust:
    """A profile is not to be divided any more, nor after a restart of the master."""

    model: ModelName
    profile: int
    distrusted: PlanDistrusted


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask a worker at once whether it is there."""

    device: DeviceName


@dataclass(frozen=True, slots=True)
class ScheduleSettling:
    """Say `DeviceSettled` after a pause."""

    device: DeviceName
    connection: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ScheduleCalm:
    """Say `CalmReturned` after a pause."""

    loss: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ScheduleLinkCheck:
    """After a pause have a link tried, and say `LinkChecked`."""

    link: LinkName
    seconds: float


@dataclass(frozen=True, slots=True)
class ScheduleRetry:
    """Say `RetryDue` after a pause."""

    model: ModelName
    seconds: float
    profile: int = 0


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Run a request on a deployment."""

    request: RequestId
    deployment: DeploymentId


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Give the run of a request up that is under way; `StartRequest` or `FailRequest` follows sooner or later."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class SchedulePause:
    """Say `PauseEnded` after a pause."""

    deployment: DeploymentId
    seconds: float


@dataclass(frozen=True, slots=True)
class FailRequest:
    """End a request with an error; workers that may know it are told."""

    request: RequestId
    failure: Failure


Instruction = (
    StartDeployment
    | PromoteStandby
    | EndTurns
    | AbandonDeployment
    | Undeploy
    | ForgetModel
    | RememberDistrust
    | Probe
    | ScheduleSettling
    | ScheduleCalm
    | ScheduleLinkCheck
    | ScheduleRetry
    | SchedulePause
    | StartRequest
    | HoldRequest
    | FailRequest
)
