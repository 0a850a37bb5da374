"""The worker's decisions, as a pure state machine: `WorkerState.handle(event)` returns instructions.

A request walks its device's program: it waits for messages, executes steps, sends messages. The first message of a
request creates it, whoever sends it: peers may be faster than the master. Several requests are under way at once, one
computes at a time, the oldest first. Each ends in exactly one way (`Outcome`), is then remembered for a while, and its
late messages are dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.framing import Failure
from flexpie.worker.admission import check_program, request_bytes, weight_bytes
from flexpie.worker.deployment import Deployment, Limits, expected_messages
from flexpie.worker.events import (
    BatchExecuted,
    BuildDeployment,
    CancelArrived,
    ConfirmDeployment,
    DeploymentBuilt,
    DeploymentFailed,
    DeploymentsClaimed,
    DeployRequested,
    DrainStarted,
    EndRequest,
    Event,
    ExecutionFailed,
    FailureArrived,
    FrameArrived,
    FreeDeployment,
    Instruction,
    Leave,
    MasterConnected,
    MasterLost,
    Outcome,
    PeerLost,
    RefuseDeployment,
    RejectFrame,
    RequestKey,
    RequestStarted,
    SendFailure,
    SendFrame,
    TimePassed,
    UndeployRequested,
)
from flexpie.worker.request import Request


@dataclass
class WorkerState:
    """Deployments and requests of one worker."""

    limits: Limits = field(default_factory=Limits)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    requests: dict[RequestKey, Request] = field(default_factory=dict)
    """In flight, oldest first."""
    computing: RequestKey | None = None
    """The request whose batch is being executed; it may have ended meanwhile."""
    draining: bool = False
    held_bytes: int = 0
    """What the values of all requests in flight may take."""
    buffered_bytes: int = 0
    """Of payloads that wait for their step."""
    deadlines_changed: bool = False
    """Whether `wake_at` may be another time than when this was last set to False."""
    _waiting: set[RequestKey] = field(default_factory=set)
    """Requests with steps to execute."""
    _ended: OrderedDict[RequestKey, Outcome] = field(default_factory=OrderedDict)
    _arrivals: int = 0

    def handle(self, event: Event) -> list[Instruction]:
        """Take in what happened; returns what to do, in this order."""
        done = self._dispatch(event)
        if self.computing is None and self._waiting:
            done += self._execute_oldest()
        if self.draining and not self.requests and self.computing is None:
            done.append(Leave())
        return done

    def wake_at(self) -> float | None:
        """The next time at which something is due (`TimePassed`)."""
        times = [request.deadline for request in self.requests.values()]
        times += [
            deployment.orphaned_at + self.limits.lease_seconds
            for deployment in self.deployments.values()
            if deployment.orphaned_at is not None
        ]
        return min(times, default=None)

    def requests_of(self, deployment_id: str) -> list[Request]:
        """The requests of a deployment that are in flight, oldest first."""
        return [request for key, request in self.requests.items() if key.deployment_id == deployment_id]

    def _dispatch(self, event: Event) -> list[Instruction]:
        match event:
            case FrameArrived():
                return self._take_frame(event)
            case BatchExecuted(key, seconds):
                return self._finish_batch(key, seconds)
            case ExecutionFailed(key, failure):
                self.computing = None
                return self._fail(key, failure)
            case CancelArrived(key, reason):
                return self._end(key, Outcome.CANCELLED, reason)
            case FailureArrived(key, failure):
                return self._lose_frame(key, failure)
            case TimePassed(at):
                return self._expire(at)
            case PeerLost(deployment_id, device, receiving):
                return self._lose_peer(deployment_id, device, receiving)
            case MasterConnected(master_id):
                for deployment in self._deployments_of(master_id):
                    deployment.orphaned_at = None
                return []
            case MasterLost(master_id, at):
                return self._lose_master(master_id, at)
            case RequestStarted(key, deadline, at):
                return self._advance(self._admit(key, deadline, at))
            case DeployRequested():
                return self._deploy(event)
            case DeploymentBuilt(deployment_id):
                if deployment_id not in self.deployments:
                    return [FreeDeployment(deployment_id)]  # undeployed meanwhile
                self.deployments[deployment_id].ready = True
                return [ConfirmDeployment(deployment_id)]
            case DeploymentFailed(deployment_id, failure):
                self.deployments.pop(deployment_id, None)
                return [FreeDeployment(deployment_id), RefuseDeployment(deployment_id, failure)]
            case UndeployRequested(deployment_id):
                return self._undeploy(deployment_id, "its deployment has ended")
            case DeploymentsClaimed(master_id, claimed):
                return self._keep_claimed(master_id, claimed)
            case DrainStarted():
                self.draining = True
                return []

    # Deployments.

    def _deploy(self, event: DeployRequested) -> list[Instruction]:
        try:
            if self.draining:
                raise _shutting_down()
            if (known := self.deployments.get(event.deployment_id)) is not None:
                if known.ready and (known.program, known.master_id) == (event.program, event.master_id):
                    return [ConfirmDeployment(event.deployment_id)]  # its master has started again
                raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"The deployment {event.deployment_id} exists already.")
            check_program(event.program)
            weights, activations = weight_bytes(event.program), request_bytes(event.program)
            self._check_memory(weights + activations, event.model or event.deployment_id)
        except FlexPieError as error:
            return [RefuseDeployment(event.deployment_id, Failure.of(error))]
        self.deployments[event.deployment_id] = Deployment(
            event.deployment_id,
            event.program,
            event.master_id,
            event.model,
            event.device_names,
            weights,
            activations,
            expected_messages(event.program),
        )
        return [BuildDeployment(event.deployment_id, event.program)]

    def _check_memory(self, resident: int, what: str) -> None:
        limit = self.limits.memory_bytes
        used = sum(deployment.resident_bytes for deployment in self.deployments.values())
        if limit and used + resident > limit:
            raise FlexPieError(
                ErrorCode.OUT_OF_MEMORY,
                f"{what} takes {resident} bytes on this worker, which has {limit - used} of {limit} left.",
                "Unload a model, add a device, or start the worker with a larger --memory.",
            )

    def _undeploy(self, deployment_id: str, reason: str) -> list[Instruction]:
        if deployment_id not in self.deployments:
            return []
        done: list[Instruction] = []
        for request in self.requests_of(deployment_id):
            done += self._end(request.key, Outcome.CANCELLED, reason)
        del self.deployments[deployment_id]
        return [*done, FreeDeployment(deployment_id)]

    def _deployments_of(self, master_id: str) -> list[Deployment]:
        return [known for known in self.deployments.values() if known.master_id == master_id]

    def _lose_master(self, master_id: str, at: float) -> list[Instruction]:
        done: list[Instruction] = []
        for deployment in self._deployments_of(master_id):
            deployment.orphaned_at = at
            self.deadlines_changed = True
            for request in self.requests_of(deployment.deployment_id):
                done += self._end(request.key, Outcome.CANCELLED, "the master is gone")
        return done

    def _keep_claimed(self, master_id: str, claimed: frozenset[str]) -> list[Instruction]:
        """A master begins a connection: what it had under way here is of no use, and what it does not name, either."""
        done: list[Instruction] = []
        for deployment in self._deployments_of(master_id):
            for request in self.requests_of(deployment.deployment_id):
                done += self._end(request.key, Outcome.CANCELLED, "the master has connected again")
            if deployment.deployment_id not in claimed:
                done += self._undeploy(deployment.deployment_id, "its master does not have it any more")
        return done

    # Requests.

    def _take_frame(self, event: FrameArrived) -> list[Instruction]:
        key = event.key
        if key in self._ended:
            return []
        deployment = self.deployments.get(key.deployment_id)
        if deployment is None or not deployment.ready:
            failure = Failure(
                ErrorCode.MODEL_NOT_READY, f"This worker does not have the deployment {key.deployment_id}."
            )
            return [RejectFrame(event.origin, key, failure)]
        deployment.frames_received += 1
        deployment.bytes_received += len(event.payload)
        request = self.requests.get(key)
        if request is None:
            refusal = self._refusal(deployment)
            request = self._admit(key, event.deadline, event.at)
            if refusal is not None:
                return self._fail(key, refusal)
        problem = self._deposit(request, deployment, event)
        if problem is not None:
            return self._fail(key, problem)
        return self._advance(request)

    def _refusal(self, deployment: Deployment) -> Failure | None:
        """Why no further request can be taken."""
        if self.draining:
            return Failure.of(_shutting_down())
        if len(self.requests) >= self.limits.requests:
            return Failure(
                ErrorCode.OVERLOADED,
                f"This worker has {len(self.requests)} requests in flight, which is its limit.",
                "Try again when some have finished.",
            )
        room = self._activation_room()
        if self.requests and self.held_bytes + deployment.request_bytes > room:
            return Failure(
                ErrorCode.OVERLOADED,
                f"The {len(self.requests)} requests in flight on this worker may take {self.held_bytes} bytes, and one "
                f"more {deployment.request_bytes}; there is room for {room}.",
                "Try again when some have finished, or start the worker with a larger --memory.",
            )
        return None

    def _activation_room(self) -> int:
        """Bytes that the values of requests may take."""
        limits = self.limits
        weights = sum(deployment.weight_bytes for deployment in self.deployments.values())
        left = limits.memory_bytes - weights if limits.memory_bytes else limits.activation_bytes
        return min(left, limits.activation_bytes)

    def most_requests(self, deployment_id: str) -> int:
        """How many requests of a deployment alone have room here at once."""
        room = self._activation_room() // max(1, self.deployments[deployment_id].request_bytes)
        return max(1, min(self.limits.requests, room))

    def _admit(self, key: RequestKey, deadline: float, at: float) -> Request:
        deployment = self.deployments[key.deployment_id]
        request = Request(key, deployment.program, deadline, self._arrivals, at, awaited=set(deployment.expected))
        self._arrivals += 1
        self.requests[key] = request
        self.deadlines_changed = True
        self.held_bytes += deployment.request_bytes
        return request

    def _deposit(self, request: Request, deployment: Deployment, event: FrameArrived) -> Failure | None:
        """Put a payload into the request's mailbox; returns what is wrong with it, if something is."""
        slot = (event.exchange, event.source)
        if slot not in request.awaited:
            how = "twice" if slot in deployment.expected else "unexpectedly"
            return Failure(ErrorCode.CORRUPT_PACKAGE, f"The {_described(deployment, event)} came {how}.")
        expected, length = deployment.expected[slot], len(event.payload)
        if expected is not None and expected != length:
            what = f"The {_described(deployment, event)} has {length} bytes instead of {expected}."
            return Failure(ErrorCode.CORRUPT_PACKAGE, what)
        if self.buffered_bytes + length > self.limits.buffered_bytes:
            return Failure(
                ErrorCode.OVERLOADED,
                f"This worker holds {self.buffered_bytes} bytes of waiting messages; its limit is "
                f"{self.limits.buffered_bytes}.",
                "Try again with fewer requests at once.",
            )
        request.awaited.remove(slot)
        request.mailbox[slot] = event.payload
        self.buffered_bytes += length
        return None

    def _advance(self, request: Request) -> list[Instruction]:
        """Go on as far as possible without executing anything."""
        if request.key == self.computing:
            return []
        deployment = self.deployments[request.key.deployment_id]
        done: list[Instruction] = []
        for send in request.pass_sends():
            deployment.frames_sent += 1
            done.append(SendFrame(request.key, send.exchange, send.destination, send.parts, request.deadline))
        if request.finished:
            return done + self._end(request.key, Outcome.FINISHED)
        if request.executable_stop() > request.position:
            self._waiting.add(request.key)
        return done

    def _execute_oldest(self) -> list[Instruction]:
        key = min(self._waiting, key=lambda waiting: self.requests[waiting].arrival)
        self._waiting.remove(key)
        self.computing = key
        batch = self.requests[key].take_batch()
        self.buffered_bytes -= sum(map(len, batch.payloads))
        return [batch]

    def _finish_batch(self, key: RequestKey, seconds: float) -> list[Instruction]:
        self.computing = None
        if key.deployment_id in self.deployments:
            self.deployments[key.deployment_id].compute_seconds += seconds
        request = self.requests.get(key)
        if request is None:
            return []  # ended while it computed
        request.position = request.batch_stop
        return self._advance(request)

    def _fail(self, key: RequestKey, failure: Failure) -> list[Instruction]:
        if key not in self.requests:
            return []
        passed = failure.code is ErrorCode.DEADLINE_EXCEEDED
        ended = self._end(key, Outcome.DEADLINE_PASSED if passed else Outcome.FAILED, failure.message)
        return [SendFailure(key, failure), *ended]

    def _lose_frame(self, key: RequestKey, failure: Failure) -> list[Instruction]:
        """A frame was not sent, or not taken. With its last one a request is finished here, but nowhere else."""
        if self._ended.get(key) is Outcome.FINISHED and key.deployment_id in self.deployments:
            self._ended[key] = Outcome.FAILED
            return [SendFailure(key, failure)]
        return self._fail(key, failure)

    def _end(self, key: RequestKey, outcome: Outcome, reason: str = "") -> list[Instruction]:
        """End a request and remember it, also one that has not come yet: its messages may be on their way."""
        self._ended.setdefault(key, outcome)
        while len(self._ended) > self.limits.remembered:
            self._ended.popitem(last=False)
        request = self.requests.pop(key, None)
        if request is None:
            return []
        self.deadlines_changed = True
        self._waiting.discard(key)
        self.buffered_bytes -= request.buffered_bytes
        deployment = self.deployments[key.deployment_id]
        self.held_bytes -= deployment.request_bytes
        if outcome is Outcome.FINISHED:
            deployment.requests_done += 1
        else:
            deployment.requests_failed += 1
        return [EndRequest(key, outcome, reason)]

    def _expire(self, at: float) -> list[Instruction]:
        done: list[Instruction] = []
        for request in list(self.requests.values()):
            if request.deadline <= at:
                done += self._fail(request.key, self._deadline_failure(request))
        for deployment in list(self.deployments.values()):
            if deployment.orphaned_at is not None and deployment.orphaned_at + self.limits.lease_seconds <= at:
                done += self._undeploy(deployment.deployment_id, "its master is gone")
        return done

    def _deadline_failure(self, request: Request) -> Failure:
        deployment = self.deployments[request.key.deployment_id]
        reached = {source for _, source in request.awaited}
        missing = ", ".join(deployment.name_of(device) for device in sorted(reached))
        return Failure(
            ErrorCode.DEADLINE_EXCEEDED,
            f"The deadline passed on {deployment.name_of(deployment.program.device)}"
            + (f", which was waiting for {missing}." if missing else ", which was computing."),
            "Give the request more time, or look for a slow device or link.",
        )

    def _lose_peer(self, deployment_id: str, device: int, receiving: bool) -> list[Instruction]:
        """Fail what needs the peer. Sent messages that were lost cannot be told from those that arrived, so a broken
        stream to the peer fails every request that has messages for it."""
        deployment = self.deployments.get(deployment_id)
        if deployment is None:
            return []
        failure = Failure(
            ErrorCode.DEVICE_UNREACHABLE,
            f"The link between {deployment.name_of(deployment.program.device)} and {deployment.name_of(device)} broke.",
            "Check that both workers run and that the network connects them.",
        )
        sends = not receiving and deployment.sends_to(device)
        done: list[Instruction] = []
        for request in self.requests_of(deployment_id):
            if sends or (receiving and any(source == device for _, source in request.awaited)):
                done += self._fail(request.key, failure)
        if sends:  # also those that are finished here: the peer may have heard nothing of them
            for key in [key for key in self._ended if key.deployment_id == deployment_id]:
                done += self._lose_frame(key, failure)
        return done


def _described(deployment: Deployment, event: FrameArrived) -> str:
    return f"message of {deployment.name_of(event.source)} for exchange {event.exchange}"


def _shutting_down() -> FlexPieError:
    return FlexPieError(ErrorCode.SHUTTING_DOWN, "This worker is shutting down.", "Try again when it is back.")
