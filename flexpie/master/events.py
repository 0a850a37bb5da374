"""What the master's state is told, in the past tense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.boundary import Boundary
from flexpie.core.strategy import DATA_PARALLEL
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.interface import Interface
from flexpie.wire.framing import Failure

DeviceName = str
ModelName = str
DeploymentId = str
RequestId = int
LinkName = tuple[DeviceName, DeviceName]
"""Source and destination."""


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What is told about one segment of a plan."""

    layers: tuple[str, ...]
    scheme: str
    shares: tuple[float, ...]
    compute_seconds: float
    """Of the slowest device."""
    exchange_seconds: float
    exchange_bytes: int


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What is told about a plan."""

    participants: tuple[DeviceName, ...]
    """The devices that a request needs."""
    segments: tuple[SegmentSummary, ...] = ()
    predicted_seconds: float = 0.0
    single_device_seconds: float = 0.0
    remark: str = ""
    """What users should know about it, such as that it is not the plan that was given."""
    requests_per_second: float = 0.0
    """With many requests in flight."""
    single_device_fits: bool = True
    """Whether the device that is fastest alone has the memory for it."""
    links: frozenset[LinkName] = frozenset()
    """Those between devices over which something is sent."""
    boundary: Boundary = Boundary.FLOAT32
    """What float32 tensors are between devices."""

    @property
    def takes_turns(self) -> bool:
        """Whether each request needs one of the participants only."""
        return any(segment.scheme == DATA_PARALLEL for segment in self.segments) and len(self.participants) > 1


# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class DeviceConnected:
    """A worker shook hands and its stream is open."""

    device: DeviceName
    worker_id: str = ""
    version: str = ""
    at: float = 0.0
    """In seconds, by the clock of all events."""


@dataclass(frozen=True, slots=True)
class DeviceSettled:
    """A device that returned was steady for as long as it had to."""

    device: DeviceName
    connection: int
    """Which of its connections it was."""


@dataclass(frozen=True, slots=True)
class PeersReported:
    """A device says which of its peers it does not reach; all of them, whenever they change."""

    device: DeviceName
    unreachable: frozenset[DeviceName]


@dataclass(frozen=True, slots=True)
class LinkChecked:
    """It was tried whether a missing link works again."""

    link: LinkName
    works: bool


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """A worker cannot be reached, or its connection broke."""

    device: DeviceName
    reason: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceRefused:
    """A worker answered, but cannot be used (another version)."""

    device: DeviceName
    reason: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceSuspected:
    """Somebody says that a connected worker may be gone."""

    device: DeviceName


@dataclass(frozen=True, slots=True)
class DeviceAnswered:
    """A suspected worker answered a probe."""

    device: DeviceName


@dataclass(frozen=True, slots=True)
class DeviceLeft:
    """A worker is shutting down: it finishes its requests and takes no new ones."""

    device: DeviceName


@dataclass(frozen=True, slots=True)
class GraceEnded:
    """The time in which devices may connect before the first plan is over."""


@dataclass(frozen=True, slots=True)
class Resumable:
    """A deployment of an earlier run of the master, which the workers may still have."""

    deployment: DeploymentId
    participants: frozenset[DeviceName]
    """The devices that it needs."""
    devices: tuple[DeviceName, ...]
    """Those that it was planned over."""


@dataclass(frozen=True, slots=True)
class ModelRequested:
    """A model is to be served."""

    entry: ModelEntry
    kept: bool = False
    """Whether it stays known after it is unloaded, because the cluster file names it."""
    interfaces: tuple[Interface, ...] = ()
    """Of its profiles, where an earlier run told them."""
    resumable: tuple[Resumable, ...] = ()
    """How an earlier run served its profiles: all of them, or none."""
    distrusted: Mapping[int, PlanDistrusted] = field(default_factory=dict)
    """Profiles of which an earlier run found answers to be wrong."""


@dataclass(frozen=True, slots=True)
class UnloadRequested:
    """A model is no longer to be served."""

    model: ModelName


@dataclass(frozen=True, slots=True)
class ModelImported:
    """A model's file was read, for each of its profiles."""

    model: ModelName
    profiles: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class StageReached:
    """A deployment under way came so far."""

    deployment: DeploymentId
    stage: str
    """"import", "plan", "compile", "push" or "build"."""
    done: int = 0
    total: int = 0
    """0 where it is not known."""
    unit: str = ""
    """"bytes", "devices", "profiles" or "seconds" (since the stage began)."""


@dataclass(frozen=True, slots=True)
class DeploymentPlanned:
    """A deployment under way has a plan."""

    deployment: DeploymentId
    plan: PlanSummary


@dataclass(frozen=True, slots=True)
class DeploymentReady:
    """Every participant is ready for requests."""

    deployment: DeploymentId
    resident_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    """What the deployment takes of each participant's memory."""
    pushed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentFailed:
    """A deployment under way cannot be finished."""

    deployment: DeploymentId
    failure: Failure


@dataclass(frozen=True, slots=True)
class PlanDistrusted:
    """A deployment that serves gave a wrong answer."""

    deployment: DeploymentId
    """Empty for one of an earlier run of the master."""
    reason: str
    trusted: frozenset[DeviceName]
    """Devices that compute the same, each alone."""


@dataclass(frozen=True, slots=True)
class ResumeFailed:
    """The workers cannot go on with a deployment of an earlier run: the model is to be planned."""

    deployment: DeploymentId


@dataclass(frozen=True, slots=True)
class ReplanWanted:
    """A deployment that serves is not the best any more: it serves until a better one is ready."""

    deployment: DeploymentId
    only: DeviceName = ""
    """The one device to plan for; empty for all."""
    remark: str = ""
    """Why, for users."""


@dataclass(frozen=True, slots=True)
class PlanOutdated:
    """Devices or links are not as fast as they were when a deployment that serves was planned, and there is a better
    plan now. Those of standbys are of that time too."""

    deployment: DeploymentId
    standby: DeploymentId = ""
    """One that is better and ready: it serves at once."""
    standby_suffices: bool = False
    """Whether no other plan would be much better than that one."""


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The pause before another attempt is over."""

    model: ModelName
    profile: int = 0


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A valid request came in."""

    request: RequestId
    model: ModelName
    profile: int = 0
    """The one that it fits."""
    count: int = 1
    """Of clients' requests in it, where several were gathered."""


@dataclass(frozen=True, slots=True)
class RequestDisturbed:
    """A run of a request could not be finished, for a reason that another run may not meet."""

    request: RequestId
    deployment: DeploymentId
    """That it ran on."""
    failure: Failure


@dataclass(frozen=True, slots=True)
class PauseEnded:
    """Requests may run again on a deployment whose runs were disturbed."""

    deployment: DeploymentId


@dataclass(frozen=True, slots=True)
class CalmReturned:
    """Some time has passed since deployments were lost."""

    loss: int
    """Which one it was: only the last one counts."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request was answered, failed, was cancelled, or ran out of time."""

    request: RequestId
    succeeded: bool


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """No new requests; those in flight may finish."""


@dataclass(frozen=True, slots=True)
class DrainEnded:
    """What is still in flight has no more time."""


DeviceEvent = (
    DeviceConnected
    | DeviceSettled
    | DeviceLost
    | DeviceRefused
    | DeviceSuspected
    | DeviceAnswered
    | DeviceLeft
    | PeersReported
    | LinkChecked
    | GraceEnded
)
ModelEvent = ModelRequested | UnloadRequested | ModelImported | RetryDue | PlanDistrusted
DeploymentEvent = (
    StageReached | DeploymentPlanned | DeploymentReady | DeploymentFailed | ResumeFailed | ReplanWanted | PlanOutdated
)
RequestEvent = RequestArrived | RequestDisturbed | PauseEnded | CalmReturned | RequestEnded
Event = DeviceEvent | ModelEvent | DeploymentEvent | RequestEvent | ShutdownRequested | DrainEnded
