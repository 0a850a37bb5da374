"""The master's decisions, as a pure state machine: events in, instructions out. No clock, no sockets, no threads.

Rules that hold at all times
- One deployment is under way at a time. It is not disturbed by devices that join; they are planned in afterwards.
- A model goes on serving on its old deployment until the new one is ready.
- A lost device fails the requests that need it, at once. Requests that come while their model is planned again wait;
  when there is nothing to wait for, they fail. Nobody waits without a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flexpie.core.errors import ErrorCode
from flexpie.master import refusals
from flexpie.master.events import (
    AbandonDeployment,
    DeploymentEvent,
    DeploymentFailed,
    DeploymentId,
    DeploymentPlanned,
    DeploymentReady,
    DeviceAnswered,
    DeviceConnected,
    DeviceEvent,
    DeviceLeft,
    DeviceLost,
    DeviceName,
    DeviceRefused,
    DeviceSuspected,
    DrainEnded,
    Event,
    FailRequest,
    ForgetModel,
    GraceEnded,
    Instruction,
    ModelEvent,
    ModelImported,
    ModelName,
    ModelRequested,
    Probe,
    RequestArrived,
    RequestEnded,
    RequestId,
    RetryDue,
    ScheduleRetry,
    ShutdownRequested,
    StageReached,
    StartDeployment,
    StartRequest,
    Undeploy,
    UnloadRequested,
)
from flexpie.master.membership import Membership
from flexpie.master.records import DeploymentRecord, DeviceState, ModelRecord, ModelState
from flexpie.wire.framing import Failure

PERMANENT = frozenset(
    {ErrorCode.INVALID_MODEL, ErrorCode.UNSUPPORTED_MODEL, ErrorCode.INVALID_SHAPE, ErrorCode.INVALID_ARGUMENT}
)
"""Failures that no other set of devices would change."""

PASSING = frozenset({ErrorCode.DEVICE_UNREACHABLE, ErrorCode.SHUTTING_DOWN})
"""Failures that come and go with a device."""

MAX_ATTEMPTS = 8
LONGEST_PAUSE_SECONDS = 15.0
"""How often a deployment that failed for a passing reason is tried again, and after which pauses: half a second, and
then twice as long each time. Together a minute: as long as workers keep what a master that crashed left on them."""


class MasterState:
    """Membership of devices, models, deployments and requests in flight."""

    def __init__(self, devices: Sequence[DeviceName], *, token: str = "", max_requests: int = 128) -> None:
        """`token` begins every deployment's id, so that two runs of a master never share one."""
        self.members = Membership(devices)
        self.models: dict[ModelName, ModelRecord] = {}
        self.retiring: dict[DeploymentId, DeploymentRecord] = {}
        """Replaced deployments that still have requests."""
        self.requests: dict[RequestId, ModelName] = {}
        self.requests_done = 0
        self.requests_failed = 0
        self.stopping = False
        self._max_requests = max_requests
        self._token = token
        self._deployments_made = 0
        self._out: list[Instruction] = []

    def handle(self, *events: Event) -> list[Instruction]:
        """Take in what happened, in order, and say what is to be done, in order."""
        for event in events:
            self._apply(event)
        instructions, self._out = self._out, []
        return instructions

    def _apply(self, event: Event) -> None:
        if isinstance(event, DeviceEvent):
            self._apply_to_devices(event)
        elif isinstance(event, ModelEvent):
            self._apply_to_models(event)
        elif isinstance(event, DeploymentEvent):
            self._apply_to_deployments(event)
        else:
            match event:
                case RequestArrived(request, model):
                    self._admit(request, model)
                case RequestEnded(request, succeeded):
                    self._end(request, succeeded)
                case ShutdownRequested():
                    self._stop()
                case DrainEnded():
                    self._finish()

    # ------------------------------------------------------------------------------------------- devices

    def _apply_to_devices(self, event: DeviceEvent) -> None:
        members = self.members
        match event:
            case DeviceConnected(device, worker_id, version):
                members.connect(device, worker_id, version)
                self._membership_changed()
            case DeviceLost(device, reason) | DeviceRefused(device, reason):
                state = DeviceState.REFUSED if isinstance(event, DeviceRefused) else DeviceState.UNREACHABLE
                if members.lose(device, state, reason):
                    self._do_without(device, refusals.device_lost(device, reason))
            case DeviceSuspected(device):
                self._suspect(device)
            case DeviceAnswered(device):
                members.clear(device)
            case DeviceLeft(device):
                if members.leave(device):
                    self._do_without(device, None)
            case GraceEnded():
                members.end_grace()
        self._reconsider()

    def _do_without(self, device: DeviceName, failure: Failure | None) -> None:
        """End what needs a device; its requests fail, or without a failure may finish."""
        for model in self.models.values():
            if model.serving and model.serving.needs(device):
                if failure:
                    self._fail_all(model.serving.requests, failure)
                self._retire(model.serving)
                model.serving = None
            if model.building and model.building.needs(device):
                self._abandon(model)
        for deployment in list(self.retiring.values()):
            if failure and deployment.needs(device):
                self._fail_all(deployment.requests, failure)
        self._membership_changed()

    def _suspect(self, device: DeviceName) -> None:
        if self.members.suspect(device):
            self._out.append(Probe(device))

    def _membership_changed(self) -> None:
        for model in self.models.values():
            model.retrying, model.attempts = False, 0

    # -------------------------------------------------------------------------------------------- models

    def _apply_to_models(self, event: ModelEvent) -> None:
        match event:
            case ModelRequested(entry, kept):
                known = self.models.get(entry.name)
                if known is None:
                    self.models[entry.name] = ModelRecord(entry, kept)
                else:
                    known.wanted, known.failure, known.failed_on = True, None, None
                self._reconsider()
            case UnloadRequested(name) if name in self.models:
                self._unload(self.models[name])
                self._reconsider()
            case ModelImported(name, inputs, outputs) if name in self.models:
                self.models[name].inputs, self.models[name].outputs = inputs, outputs
            case RetryDue(name) if name in self.models and self.models[name].retrying:
                self.models[name].retrying, self.models[name].failed_on = False, None
                self._reconsider()

    def _unload(self, model: ModelRecord) -> None:
        model.wanted, model.was_ready, model.retrying, model.failure = False, False, False, None
        name = model.entry.name
        self._fail_all(model.waiting, refusals.unloaded(name))
        self._abandon(model)
        if model.serving:
            self._retire(model.serving)
            model.serving = None
        self._out.append(ForgetModel(name))
        if not model.kept:
            del self.models[name]

    def describe(self, model: ModelRecord) -> tuple[ModelState, str]:
        """A model's state, and why it is not ready."""
        if not model.wanted:
            return ModelState.UNLOADED, "unloaded"
        if model.serving:
            return ModelState.READY, ""
        if model.building:
            return ModelState.LOADING, f"stage {model.building.stage}"
        if model.retrying and model.failure:
            return ModelState.LOADING, f"trying again: {model.failure.message}"
        if model.failure and not self._wants_deployment(model):
            return ModelState.FAILED, str(model.failure.error)
        if not self.members.settled:
            return ModelState.LOADING, "devices are connecting"
        if not self.members.connected:
            return ModelState.WAITING, "no device is connected"
        return ModelState.LOADING, "another model is being deployed"

    # --------------------------------------------------------------------------------------- deployments

    def _apply_to_deployments(self, event: DeploymentEvent) -> None:
        model = self._builder_of(event.deployment)
        if model is None or model.building is None:
            return  # abandoned in the meantime
        match event:
            case StageReached(_, stage, done, total, unit):
                building = model.building
                building.stage, building.done, building.total, building.unit = stage, done, total, unit
            case DeploymentPlanned(_, plan):
                model.building.plan = plan
            case DeploymentReady(_, resident_bytes, pushed_bytes):
                model.building.resident_bytes, model.building.pushed_bytes = resident_bytes, pushed_bytes
                self._switch_over(model, model.building)
            case DeploymentFailed(_, failure):
                self._give_up(model, model.building, failure)
        if not isinstance(event, StageReached):
            self._reconsider()

    def _builder_of(self, deployment: DeploymentId) -> ModelRecord | None:
        for model in self.models.values():
            if model.building and model.building.id == deployment:
                return model
        return None

    def _switch_over(self, model: ModelRecord, deployment: DeploymentRecord) -> None:
        before, model.serving, model.building = model.serving, deployment, None
        model.failure, model.failed_on, model.attempts, model.was_ready = None, None, 0, True
        if before:
            self._retire(before)

    def _give_up(self, model: ModelRecord, deployment: DeploymentRecord, failure: Failure) -> None:
        model.building, model.failure, model.failed_on = None, failure, frozenset(deployment.devices)
        if not self._passes(model, deployment, failure):
            return
        if failure.code is ErrorCode.DEVICE_UNREACHABLE:  # usually a peer notices the loss of a device first
            for device in deployment.devices:
                if deployment.needs(device):
                    self._suspect(device)
        model.attempts += 1
        if model.attempts <= MAX_ATTEMPTS:
            model.retrying = True
            pause = min(0.5 * 2 ** (model.attempts - 1), LONGEST_PAUSE_SECONDS)
            self._out.append(ScheduleRetry(model.entry.name, pause))

    def _passes(self, model: ModelRecord, deployment: DeploymentRecord, failure: Failure) -> bool:
        """Whether another attempt on the same devices may succeed."""
        # The plan fits the devices, so what a worker has no room for is in the way of something else: perhaps only
        # what another master left there. Who waits for an upload is told at once.
        in_the_way = failure.code is ErrorCode.OUT_OF_MEMORY and deployment.stage == "build"
        return failure.code in PASSING or (in_the_way and model.serving is None and (model.kept or model.was_ready))

    def _abandon(self, model: ModelRecord) -> None:
        if model.building:
            self._out.append(AbandonDeployment(model.building.id))
            model.building = None

    def _retire(self, deployment: DeploymentRecord) -> None:
        """Remove a deployment, after its last request."""
        if deployment.requests:
            self.retiring[deployment.id] = deployment
            return
        self.retiring.pop(deployment.id, None)
        if deployment.plan:
            left = tuple(name for name in deployment.plan.participants if name in self.members.connected)
            self._out.append(Undeploy(deployment.id, left))

    def _reconsider(self) -> None:
        """Start what is to be started now, and end what waits in vain."""
        if not self.stopping and not any(model.building for model in self.models.values()):
            candidates = [model for model in self.models.values() if self._wants_deployment(model)]
            candidates.sort(key=lambda model: model.serving is not None)  # first those that do not work at all
            if candidates and self.members.settled and self.members.connected:
                self._start(candidates[0])
        for model in self.models.values():
            self._flush(model)

    def _wants_deployment(self, model: ModelRecord) -> bool:
        if not model.wanted or model.retrying or model.building:
            return False
        if model.failure and (model.failure.code in PERMANENT or model.failed_on == frozenset(self.members.connected)):
            return False
        return model.serving is None or not set(self.members.connected) <= set(model.serving.devices)

    def _start(self, model: ModelRecord) -> None:
        self._deployments_made += 1
        identity = f"{self._token}-{self._deployments_made}" if self._token else str(self._deployments_made)
        reserved: dict[DeviceName, int] = {}
        for other in self.models.values():
            if other is not model and other.serving:
                for device, nbytes in other.serving.resident_bytes.items():
                    reserved[device] = reserved.get(device, 0) + nbytes
        model.building = DeploymentRecord(identity, model.entry.name, self.members.connected)
        self._out.append(StartDeployment(identity, model.entry, self.members.connected, reserved))

    # ------------------------------------------------------------------------------------------ requests

    def _admit(self, request: RequestId, name: ModelName) -> None:
        failure = self._refusal(name)
        if failure:
            self.requests_failed += 1
            self._out.append(FailRequest(request, failure))
            return
        self.requests[request] = name
        self.models[name].waiting.append(request)
        self._flush(self.models[name])

    def _refusal(self, name: ModelName) -> Failure | None:
        if self.stopping:
            return refusals.shutting_down()
        model = self.models.get(name)
        if model is None:
            return refusals.unknown_model(name, self.models)
        if not model.serving and not self._is_replanned(model):
            return self._not_ready(model)
        if len(self.requests) >= self._max_requests:
            return refusals.overloaded(len(self.requests))
        return None

    def _is_replanned(self, model: ModelRecord) -> bool:
        """Whether a model that worked is about to work again."""
        if not model.was_ready or not model.wanted or not self.members.connected or self.stopping:
            return False
        return model.building is not None or model.retrying or self._wants_deployment(model)

    def _not_ready(self, model: ModelRecord) -> Failure:
        state, reason = self.describe(model)
        return refusals.not_ready(model.entry.name, state.value, reason, soon=state is ModelState.LOADING)

    def _flush(self, model: ModelRecord) -> None:
        """Start the waiting requests of a model, or fail them when nothing is on its way."""
        if not model.waiting:
            return
        if model.serving is None:
            if not self._is_replanned(model):
                self._fail_all(model.waiting, refusals.shutting_down() if self.stopping else self._not_ready(model))
            return
        if any(self.members.records[device].suspected for device in self._participants(model.serving)):
            return
        while model.waiting:
            request = model.waiting.popleft()
            model.serving.requests.add(request)
            self._out.append(StartRequest(request, model.serving.id))

    def _participants(self, deployment: DeploymentRecord) -> tuple[DeviceName, ...]:
        return deployment.plan.participants if deployment.plan else deployment.devices

    def _fail_all(self, requests: Iterable[RequestId], failure: Failure) -> None:
        for request in sorted(requests):
            self._end(request, succeeded=False)
            self._out.append(FailRequest(request, failure))

    def _end(self, request: RequestId, succeeded: bool) -> None:
        name = self.requests.pop(request, None)
        if name is None:
            return  # failed before by an instruction
        if succeeded:
            self.requests_done += 1
        else:
            self.requests_failed += 1
        model = self.models.get(name)
        if model and request in model.waiting:
            model.waiting.remove(request)
        if model and model.serving:
            model.serving.requests.discard(request)
        for deployment in list(self.retiring.values()):
            if request in deployment.requests:
                deployment.requests.discard(request)
                self._retire(deployment)

    # ---------------------------------------------------------------------------------------------- stop

    def _stop(self) -> None:
        self.stopping = True
        for model in self.models.values():
            self._abandon(model)
            self._flush(model)

    def _finish(self) -> None:
        self._fail_all(list(self.requests), refusals.shutting_down())
        for model in self.models.values():
            if model.serving:
                self._retire(model.serving)
                model.serving = None
