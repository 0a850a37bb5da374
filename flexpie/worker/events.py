"""What happens to a worker (events, in the past tense) and what it then does (instructions, in the imperative).

Times are seconds of a monotonic clock that the daemon owns.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from flexpie.core.program import DeviceProgram, Part, Step
from flexpie.wire.framing import Buffer, Failure


class RequestKey(NamedTuple):
    """A request; its number is unique within its deployment."""

    deployment_id: str
    request_id: int

    def __str__(self) -> str:
        return f"deployment={self.deployment_id} request={self.request_id}"


class Outcome(enum.Enum):
    """How a request ended on this device."""

    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEADLINE_PASSED = "deadline passed"


# Events.


@dataclass(frozen=True, slots=True)
class DeployRequested:
    """The master asked for a deployment whose blobs are in the store."""

    deployment_id: str
    program: DeviceProgram
    master_id: str = ""
    model: str = ""
    device_names: tuple[str, ...] = ()
    """By index; may be empty."""


@dataclass(frozen=True, slots=True)
class DeploymentBuilt:
    """Its sessions are warm and its peers connected."""

    deployment_id: str


@dataclass(frozen=True, slots=True)
class DeploymentFailed:
    """It could not be built."""

    deployment_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class UndeployRequested:
    """The master, or the end of its lease, asked to end a deployment."""

    deployment_id: str


@dataclass(frozen=True, slots=True)
class DeploymentsClaimed:
    """A master that connects, for the first time or again, says which of its deployments are to stay."""

    master_id: str
    deployment_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A request began here, without a frame: only where the master's own program runs."""

    key: RequestKey
    deadline: float
    at: float


class FrameArrived(NamedTuple):
    """A message of an exchange came in."""

    key: RequestKey
    exchange: int
    source: int
    """Index of the sending device, or `MASTER`."""
    payload: Buffer
    deadline: float
    at: float
    origin: int = 0
    """Number of the stream that it came on."""


@dataclass(frozen=True, slots=True)
class CancelArrived:
    """The master is no longer interested in a request."""

    key: RequestKey
    reason: str


@dataclass(frozen=True, slots=True)
class FailureArrived:
    """A frame of a request could not be sent, or its receiver refused it."""

    key: RequestKey
    failure: Failure


class BatchExecuted(NamedTuple):
    """The steps of an `Execute` are done."""

    key: RequestKey
    seconds: float
    """Time that they took."""


@dataclass(frozen=True, slots=True)
class ExecutionFailed:
    """The steps of an `Execute` could not be done."""

    key: RequestKey
    failure: Failure


@dataclass(frozen=True, slots=True)
class PeerLost:
    """A stream to or from another worker broke."""

    deployment_id: str
    device: int
    receiving: bool
    """Whether it is the stream that brings the peer's messages, or the one that takes ours."""


@dataclass(frozen=True, slots=True)
class MasterConnected:
    """A master opened its stream."""

    master_id: str


@dataclass(frozen=True, slots=True)
class MasterLost:
    """The last stream of a master is gone."""

    master_id: str
    at: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The clock reached a time that the state was waiting for (`WorkerState.wake_at`)."""

    at: float


@dataclass(frozen=True, slots=True)
class DrainStarted:
    """The process was asked to end: finish the requests, take no new ones."""


Event = (
    DeployRequested
    | DeploymentBuilt
    | DeploymentFailed
    | UndeployRequested
    | DeploymentsClaimed
    | RequestStarted
    | FrameArrived
    | CancelArrived
    | FailureArrived
    | BatchExecuted
    | ExecutionFailed
    | PeerLost
    | MasterConnected
    | MasterLost
    | TimePassed
    | DrainStarted
)


# Instructions.


@dataclass(frozen=True, slots=True)
class BuildDeployment:
    """Load and warm its sessions and connect to its peers; then `DeploymentBuilt` or `DeploymentFailed`."""

    deployment_id: str
    program: DeviceProgram


@dataclass(frozen=True, slots=True)
class ConfirmDeployment:
    """Tell the master that the deployment is ready."""

    deployment_id: str


@dataclass(frozen=True, slots=True)
class RefuseDeployment:
    """Tell the master that there will be no such deployment."""

    deployment_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class FreeDeployment:
    """Forget its sessions and close its streams to peers."""

    deployment_id: str


class Execute(NamedTuple):
    """Do these steps, without the event loop; then `BatchExecuted` or `ExecutionFailed`. One at a time."""

    key: RequestKey
    steps: tuple[Step, ...]
    payloads: tuple[Buffer, ...] = ()
    """One for each `Receive` among the steps, in their order."""


class SendFrame(NamedTuple):
    """Cut parts out of the request's values and send them as one message."""

    key: RequestKey
    exchange: int
    destination: int
    """Index of a device, or `MASTER`."""
    parts: tuple[Part, ...]
    deadline: float


@dataclass(frozen=True, slots=True)
class SendFailure:
    """Tell the master that the request failed here."""

    key: RequestKey
    failure: Failure


@dataclass(frozen=True, slots=True)
class RejectFrame:
    """Tell the sender, on the stream that brought it, that its frame is of no use."""

    origin: int
    key: RequestKey
    failure: Failure


@dataclass(frozen=True, slots=True)
class EndRequest:
    """Forget the request's values; it has ended in this way."""

    key: RequestKey
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do: end the process."""


Instruction = (
    BuildDeployment
    | ConfirmDeployment
    | RefuseDeployment
    | FreeDeployment
    | Execute
    | SendFrame
    | SendFailure
    | RejectFrame
    | EndRequest
    | Leave
)
