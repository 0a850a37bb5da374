"""The master's decisions, as a pure state machine: events in, instructions out. No clock, no sockets, no threads.

Rules that hold at all times
- What is planned and deployed is a profile of a model: one set of input shapes, which its requests have.
- One deployment is under way at a time. It is not disturbed by devices that join; they are planned in afterwards.
- A profile goes on serving on its old deployment until the new one is ready.
- A lost device ends the runs that need it, at once; their requests are run again, before those that came after them.
  Requests wait while their profile is planned again; when there is nothing to wait for, they fail. Nobody waits without
  a reason, and every request ends once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from flexpie.core.errors import ErrorCode
from flexpie.master import readiness, refusals
from flexpie.master.deployment_record import DeploymentRecord
from flexpie.master.events import (
    CalmReturned,
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
    DeviceSettled,
    DeviceSuspected,
    DrainEnded,
    Event,
    GraceEnded,
    LinkChecked,
    LinkName,
    ModelEvent,
    ModelImported,
    ModelName,
    ModelRequested,
    PauseEnded,
    PeersReported,
    PlanDistrusted,
    PlanOutdated,
    ReplanWanted,
    RequestArrived,
    RequestDisturbed,
    RequestEnded,
    RequestId,
    ResumeFailed,
    RetryDue,
    ShutdownRequested,
    StageReached,
    UnloadRequested,
)
from flexpie.master.instructions import (
    AbandonDeployment,
    EndTurns,
    FailRequest,
    ForgetModel,
    HoldRequest,
    Instruction,
    Probe,
    PromoteStandby,
    RememberDistrust,
    ScheduleLinkCheck,
    SchedulePause,
    ScheduleRetry,
    ScheduleSettling,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.master.link_health import LinkHealth
from flexpie.master.membership import Membership
from flexpie.master.records import DeviceState, ModelRecord, ModelState, ProfileRecord
from flexpie.master.reruns import Reruns
from flexpie.master.standby_keeper import StandbyKeeper
from flexpie.master.standbys import reserved_by
from flexpie.master.undivided import interim_of, trusted
from flexpie.wire.framing import Failure

PASSING = frozenset({ErrorCode.DEVICE_UNREACHABLE, ErrorCode.SHUTTING_DOWN})
"""Failures that come and go with a device."""

MAX_ATTEMPTS = 8
LONGEST_PAUSE_SECONDS = 15.0
"""How often a deployment that failed for a passing reason is tried again, and after which pauses: half a second, and
then twice as long each time. Together a minute: as long as workers keep what a master that crashed left on them."""


class MasterState:
    """Membership of devices, models, deployments and requests in flight."""

    def __init__(self, devices: Sequence[DeviceName], *, token: str = "", standby: bool = False) -> None:
        """`token` begins every deployment's id, so that two runs of a master never share one; `standby` tells whether
        to prepare for the loss of each device."""
        self.members = Membership(devices)
        self.links = LinkHealth()
        self.models: dict[ModelName, ModelRecord] = {}
        self.retiring: dict[DeploymentId, DeploymentRecord] = {}
        """Replaced deployments that still have requests."""
        self.requests: dict[RequestId, ProfileRecord] = {}
        self.counts: dict[RequestId, int] = {}
        """How many requests of clients each of them is."""
        self.reruns = Reruns()
        self.requests_done = 0
        self.requests_failed = 0
        self.stopping = False
        self._token = token
        self._keeper = StandbyKeeper(self, enabled=standby)
        self._deployments_made = 0
        self._out: list[Instruction] = []

    def profiles(self) -> Iterator[ProfileRecord]:
        """Of all models."""
        return (profile for model in self.models.values() for profile in model.profiles)

    def handle(self, *events: Event) -> list[Instruction]:
        """Take in what happened, in order, and say what is to be done, in order."""
        for event in events:
            self._apply(event)
        instructions, self._out = self._out, []
        return instructions

    def say(self, instruction: Instruction) -> None:
        """Have something done, behind what was said before."""
        self._out.append(instruction)

    def _apply(self, event: Event) -> None:
        if isinstance(event, DeviceEvent):
            self._apply_to_devices(event)
        elif isinstance(event, ModelEvent):
            self._apply_to_models(event)
        elif isinstance(event, DeploymentEvent):
            self._apply_to_deployments(event)
        else:
            match event:
                case RequestArrived(request, model, profile, count):
                    self._admit(request, model, profile, count)
                case RequestDisturbed(request, deployment, failure):
                    self._disturb(request, deployment, failure)
                case PauseEnded(deployment):
                    self._end_pause(deployment)
                case CalmReturned(loss):
                    self._keeper.calm_returned(loss)
                    self._reconsider()
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
            case DeviceConnected(device, worker_id, version, at):
                self._connect(device, members.connect(device, worker_id, version, at))
            case DeviceSettled(device, connection):
                if members.settle(device, connection):
                    self._membership_changed()
            case DeviceLost(device, reason, at) | DeviceRefused(device, reason, at):
                state = DeviceState.REFUSED if isinstance(event, DeviceRefused) else DeviceState.UNREACHABLE
                self.links.forget(device)
                if members.lose(device, state, reason, at):
                    self._do_without(device, refusals.device_lost(device, reason))
            case DeviceSuspected(device):
                self._suspect(device)
            case DeviceAnswered(device):
                members.clear(device)
                self._do_without_links(self.links.confirm(device, members.connected))
            case PeersReported(device, unreachable):
                for peer in sorted(self.links.report(device, unreachable)):
                    self._suspect(peer)
            case LinkChecked(link, works):
                self._take_check(link, works)
            case DeviceLeft(device):
                if members.leave(device):
                    self._do_without(device, None)
            case GraceEnded():
                members.end_grace()
        self._reconsider()

    def _do_without(self, device: DeviceName, failure: Failure | None) -> None:
        """End what needs a device; its requests are run again, or without a failure may finish."""
        serving = [profile.serving for profile in self.profiles() if profile.serving]
        for deployment in (*serving, *self.retiring.values()):
            if deployment.go_on_without(device) or (failure and device in deployment.had):  # it was leaving till now
                self._out.append(EndTurns(deployment.id, device, lost=failure is not None))
        self._end_deployments(lambda deployment: deployment.needs(device), failure)
        self._membership_changed()

    def _end_deployments(self, broken: Callable[[DeploymentRecord], bool], failure: Failure | None) -> None:
        """End all deployments that are broken, and go on with what was prepared for that."""
        self._keeper.wait_for_calm()
        self._keeper.stop(broken)
        for profile in self.profiles():
            for standby in profile.standbys.drop(broken):
                self.retire(standby)
            if profile.serving and broken(profile.serving):
                if failure:
                    self._run_again(profile.serving, profile.serving.requests, failure)
                self.retire(profile.serving)
                self._serve_standby(profile, profile.standbys.take())
            if profile.building and broken(profile.building):
                profile.interrupted = _is_down(profile)
                self._abandon(profile)
        for deployment in list(self.retiring.values()):
            if failure and broken(deployment):
                self._run_again(deployment, deployment.requests, failure)
                if deployment.id in self.retiring:
                    self.retire(deployment)

    def _connect(self, device: DeviceName, settling_seconds: float) -> None:
        if settling_seconds:
            connection = self.members.records[device].connections
            self._out.append(ScheduleSettling(device, connection, settling_seconds))
        else:
            self._membership_changed()

    def _do_without_links(self, links: Sequence[LinkName]) -> None:
        """End what needs links that do not work; messages go round them, or their ends do not work together."""
        for link in links:
            self._out.append(ScheduleLinkCheck(link, self.links.check_after_seconds(link)))

            def broken(deployment: DeploymentRecord, link: LinkName = link) -> bool:
                # What workers have built and go on with is worth more than the word of one of them, who may have been
                # held up as the master was: the check tells.
                return deployment.uses(link) and not deployment.resumed

            self._end_deployments(broken, refusals.link_lost(*link))
        if links:
            self._membership_changed()

    def _take_check(self, link: LinkName, works: bool) -> None:
        if link not in self.links.missing:
            return
        if works:
            self.links.restore(link)
            self._membership_changed()
            return
        self._out.append(ScheduleLinkCheck(link, self.links.check_after_seconds(link)))
        if any(deployment.uses(link) for deployment in self._on_their_way_or_serving()):
            self._end_deployments(lambda deployment: deployment.uses(link), refusals.link_lost(*link))

    def _on_their_way_or_serving(self) -> Iterator[DeploymentRecord]:
        for profile in self.profiles():
            yield from filter(None, (profile.serving, profile.building))

    def _suspect(self, device: DeviceName) -> None:
        if self.members.suspect(device):
            self._out.append(Probe(device))

    def _membership_changed(self) -> None:
        for profile in self.profiles():
            profile.retrying, profile.attempts = False, 0
            profile.standbys.settled.clear()
            profile.replan = None

    # -------------------------------------------------------------------------------------------- models

    def _apply_to_models(self, event: ModelEvent) -> None:
        match event:
            case ModelRequested(entry):
                known = self.models.get(entry.name)
                if known is None:
                    self.models[entry.name] = _remembered(event)
                else:
                    known.wanted = True
                    for profile in known.profiles:
                        profile.failure, profile.failed_on = None, None
                self._reconsider()
            case UnloadRequested(name) if name in self.models:
                self._unload(self.models[name])
                self._reconsider()
            case PlanDistrusted():
                self._distrust(event)
            case ModelImported(name, interfaces) if name in self.models:
                self.models[name].interfaces = interfaces
            case RetryDue(name, index) if name in self.models:
                profile = self.models[name].profiles[index]
                if profile.retrying:
                    profile.retrying, profile.failed_on = False, None
                    self._reconsider()

    def _distrust(self, event: PlanDistrusted) -> None:
        """Take a divided plan out of service: the model runs on one device from now on, which others agree with."""
        profile = next((p for p in self.profiles() if p.serving and p.serving.id == event.deployment), None)
        if profile is None:
            return  # it was replaced in the meantime
        profile.distrusted = event
        self._out.append(RememberDistrust(profile.model.entry.name, profile.index, event))
        self._keeper.drop(profile)
        self._abandon(profile)
        self._end_deployments(lambda deployment: deployment.id == event.deployment, refusals.distrusted(event.reason))
        self._reconsider()

    def _unload(self, model: ModelRecord) -> None:
        model.wanted = False
        name = model.entry.name
        for profile in model.profiles:
            profile.was_ready, profile.retrying, profile.failure, profile.distrusted = False, False, None, None
            self._fail_all(profile.waiting, refusals.unloaded(name))
            self._abandon(profile)
            self._drop_resumable(profile)
            self._keeper.drop(profile)
            if profile.serving:
                self.retire(profile.serving)
                profile.serving = None
        self._out.append(ForgetModel(name))
        if not model.kept:
            del self.models[name]

    def describe(self, model: ModelRecord) -> tuple[ModelState, str]:
        """A model's state, and why it is not ready."""
        return readiness.describe_model(model, self.members, self.links)

    # --------------------------------------------------------------------------------------- deployments

    def _apply_to_deployments(self, event: DeploymentEvent) -> None:
        if self._keeper.take(event):
            if isinstance(event, DeploymentReady | DeploymentFailed):
                self._reconsider()
            return
        if isinstance(event, ReplanWanted | PlanOutdated):
            self._replan(event)
            return
        profile = self._builder_of(event.deployment)
        if profile is None or profile.building is None:
            return  # abandoned in the meantime
        match event:
            case StageReached(_, stage, done, total, unit):
                building = profile.building
                building.stage, building.done, building.total, building.unit = stage, done, total, unit
            case DeploymentPlanned(_, plan):
                profile.building.plan = plan
            case DeploymentReady(_, resident_bytes, pushed_bytes):
                profile.building.resident_bytes, profile.building.pushed_bytes = resident_bytes, pushed_bytes
                self._switch_over(profile, profile.building)
            case DeploymentFailed(_, failure):
                self._give_up(profile, profile.building, failure)
            case ResumeFailed():
                profile.building = None
        if not isinstance(event, StageReached):
            self._reconsider()

    def server_of(self, deployment: DeploymentId) -> ProfileRecord | None:
        """The profile that a deployment serves."""
        return next((item for item in self.profiles() if item.serving and item.serving.id == deployment), None)

    def _replan(self, event: ReplanWanted | PlanOutdated) -> None:
        profile = self.server_of(event.deployment)
        if profile is None or profile.building:
            return
        if isinstance(event, ReplanWanted) and event.only and event.only not in self.members.connected:
            return  # it was lost meanwhile
        profile.failure, profile.failed_on = None, None
        if isinstance(event, ReplanWanted):
            profile.replan = event
        else:
            before, promoted = profile.serving, profile.standbys.take_one(event.standby)
            if promoted and before:
                promoted.outdated = False  # it was predicted for what the cluster is now
                self._serve_standby(profile, promoted)
                self.retire(before)
            if promoted and event.standby_suffices:
                promoted.devices = self.members.connected  # the others would bring nothing
            else:
                profile.replan = ReplanWanted(event.deployment)
            self._keeper.stop()
            for other in self.profiles():
                other.standbys.outdate()
        self._reconsider()

    def _serve_standby(self, profile: ProfileRecord, standby: DeploymentRecord | None) -> None:
        """Have a standby serve from now on, if there is one."""
        profile.serving = standby
        if standby:
            self._out.append(PromoteStandby(standby.id))

    def _builder_of(self, deployment: DeploymentId) -> ProfileRecord | None:
        for profile in self.profiles():
            if profile.building and profile.building.id == deployment:
                return profile
        return None

    def _switch_over(self, profile: ProfileRecord, deployment: DeploymentRecord) -> None:
        before, profile.serving, profile.building = profile.serving, deployment, None
        profile.failure, profile.failed_on, profile.attempts, profile.was_ready = None, None, 0, True
        profile.interrupted = False
        profile.standbys.settled.clear()
        if deployment.interim and deployment.plan:
            deployment.devices = deployment.plan.participants  # so that the others are planned in at once
        if before:
            self.retire(before)

    def _give_up(self, profile: ProfileRecord, deployment: DeploymentRecord, failure: Failure) -> None:
        profile.building, profile.failure = None, failure
        profile.failed_on = frozenset(deployment.devices), deployment.missing
        passes = self._passes(profile, deployment, failure)
        profile.interrupted = passes and _is_down(profile)
        if not passes:
            if deployment.interim:  # it does not fit on one device, say
                profile.failure, profile.failed_on = None, None
            return
        if failure.code is ErrorCode.DEVICE_UNREACHABLE:  # usually a peer notices the loss of a device first
            for device in deployment.devices:
                if deployment.needs(device):
                    self._suspect(device)
        profile.attempts += 1
        if profile.attempts <= MAX_ATTEMPTS:
            profile.retrying = True
            pause = min(0.5 * 2 ** (profile.attempts - 1), LONGEST_PAUSE_SECONDS)
            self._out.append(ScheduleRetry(profile.model.entry.name, pause, profile.index))

    def _passes(self, profile: ProfileRecord, deployment: DeploymentRecord, failure: Failure) -> bool:
        """Whether another attempt on the same devices may succeed."""
        # The plan fits the devices, so what a worker has no room for is in the way of something else: perhaps only
        # what another master left there. Who waits for an upload is told at once.
        in_the_way = failure.code is ErrorCode.OUT_OF_MEMORY and deployment.stage == "build"
        if in_the_way and any(other.standbys.ready for other in self.profiles()):
            for other in self.profiles():  # a standby is worth less than a plan that serves
                self._keeper.drop(other)
            return True
        patient = profile.serving is None and (profile.model.kept or profile.was_ready)
        return failure.code in PASSING or (in_the_way and patient)

    def _abandon(self, profile: ProfileRecord) -> None:
        if profile.building:
            self._out.append(AbandonDeployment(profile.building.id))
            profile.building = None

    def retire(self, deployment: DeploymentRecord) -> None:
        """Remove a deployment, after its last request."""
        if deployment.requests:
            self.retiring[deployment.id] = deployment
            return
        self.retiring.pop(deployment.id, None)
        if deployment.plan:
            having = (*deployment.plan.participants, *deployment.had)
            self._out.append(Undeploy(deployment.id, tuple(name for name in having if name in self.members.connected)))

    def _reconsider(self) -> None:
        """Start what is to be started now, and end what waits in vain."""
        if not self.stopping and not any(profile.building for profile in self.profiles()):
            candidates = [
                profile for profile in self.profiles() if readiness.wants_deployment(profile, self.members, self.links)
            ]
            candidates.sort(key=lambda profile: profile.serving is not None)  # first those that do not work at all
            for profile in candidates:
                if self._may_start(profile):
                    self._keeper.stop()
                    self._start(profile)
                    break
            else:
                self._keeper.prepare()
        for profile in self.profiles():
            self._flush(profile)

    def _may_start(self, profile: ProfileRecord) -> bool:
        """Whether the devices are there: those of an earlier run's deployment, or else all that there will be."""
        connected = self.members.connected
        if profile.resumable and profile.resumable.participants.issubset(connected):
            return True
        if not self.members.settled:
            return False
        self._drop_resumable(profile)
        return bool(connected)

    def _drop_resumable(self, profile: ProfileRecord) -> None:
        """Have workers end what an earlier run left on them, which this one does not go on with."""
        resumable, profile.resumable = profile.resumable, None
        if resumable:
            left = tuple(name for name in self.members.connected if name in resumable.participants)
            self._out.append(Undeploy(resumable.deployment, left))

    def new_identity(self) -> DeploymentId:
        """For a deployment: no two runs of a master share one."""
        self._deployments_made += 1
        return f"{self._token}-{self._deployments_made}" if self._token else str(self._deployments_made)

    def _start(self, profile: ProfileRecord) -> None:
        resumable, profile.resumable = profile.resumable, None
        identity = resumable.deployment if resumable else self.new_identity()
        reserved = reserved_by(other.serving for other in self.profiles() if other is not profile and other.serving)
        missing = frozenset(link for link in self.links.missing if set(link) <= set(self.members.connected))
        devices = resumable.devices if resumable else self.members.connected
        interim = profile.interrupted and len(devices) > 1 and not profile.distrusted and not resumable
        profile.building = DeploymentRecord(identity, devices, missing, interim=interim, resumed=bool(resumable))
        replan, profile.replan = profile.replan, None
        only, remark = (replan.only, replan.remark) if replan else ("", "")
        model = profile.model
        siblings = tuple(other.index for other in model.profiles if other is not profile and not other.serving)
        start = StartDeployment(
            identity, model.entry, self.members.connected, reserved, profile.index, siblings, missing, only, remark
        )
        if profile.distrusted:
            start = trusted(start, profile.distrusted)
        elif interim:
            start = interim_of(start)
        self._out.append(start)

    # ------------------------------------------------------------------------------------------ requests

    def _admit(self, request: RequestId, name: ModelName, index: int, count: int) -> None:
        failure = self._refusal(name, index)
        if failure:
            self.requests_failed += count
            self._out.append(FailRequest(request, failure))
            return
        profile = self.models[name].profiles[index]
        self.requests[request] = profile
        self.counts[request] = count
        profile.waiting.append(request)
        self._flush(profile)

    def _refusal(self, name: ModelName, index: int) -> Failure | None:
        if self.stopping:
            return refusals.shutting_down()
        model = self.models.get(name)
        if model is None:
            return refusals.unknown_model(name, self.models)
        profile = model.profiles[index]
        if not profile.serving and not readiness.is_replanned(profile, self.members, self.links):
            return readiness.not_ready(profile, self.members, self.links)
        return None

    def _flush(self, profile: ProfileRecord) -> None:
        """Start the waiting requests of a profile, or fail them when nothing is on its way."""
        if not profile.waiting:
            return
        if profile.serving is None:
            if self.stopping:
                self._fail_all(profile.waiting, refusals.shutting_down())
            elif not readiness.is_replanned(profile, self.members, self.links):
                self._fail_all(profile.waiting, readiness.not_ready(profile, self.members, self.links))
            return
        suspected = any(self.members.records[device].suspected for device in self._participants(profile.serving))
        if suspected or profile.serving.paused:
            return
        while profile.waiting:
            request = profile.waiting.popleft()
            self.reruns.begin(request)
            profile.serving.requests.add(request)
            self._out.append(StartRequest(request, profile.serving.id))

    def _disturb(self, request: RequestId, identity: DeploymentId, failure: Failure) -> None:
        """Run a request again, as soon as it is known that the devices of its deployment are there."""
        profile = self.requests.get(request)
        candidates = [profile.serving if profile else None, self.retiring.get(identity)]
        deployment = next((item for item in candidates if item and item.id == identity), None)
        if deployment is None or request not in deployment.requests:
            return  # it is run again already
        pause = self.reruns.pause_seconds(request)
        self._run_again(deployment, {request}, failure)
        if identity in self.retiring:
            self.retire(deployment)
        elif profile and profile.serving is deployment and not deployment.paused:
            deployment.paused = True
            self._out.append(SchedulePause(identity, pause))
        for device in self._participants(deployment):
            self._suspect(device)
        self._reconsider()

    def _end_pause(self, deployment: DeploymentId) -> None:
        for profile in self.profiles():
            if profile.serving and profile.serving.id == deployment:
                profile.serving.paused = False
                self._flush(profile)

    def _run_again(self, deployment: DeploymentRecord, requests: Iterable[RequestId], failure: Failure) -> None:
        """Give runs of a deployment up. Their requests wait again, in front of those that came later; those that have
        been run too often, or have nothing to wait for, fail."""
        for request in sorted(requests, reverse=True):
            profile = self.requests[request]
            if self.stopping or not profile.model.wanted or not self.reruns.may_begin(request):
                self._fail_all([request], failure)
                continue
            deployment.requests.discard(request)
            profile.waiting.appendleft(request)
            self._out.append(HoldRequest(request))

    def _participants(self, deployment: DeploymentRecord) -> tuple[DeviceName, ...]:
        return deployment.plan.participants if deployment.plan else deployment.devices

    def _fail_all(self, requests: Iterable[RequestId], failure: Failure) -> None:
        for request in sorted(requests):
            self._end(request, succeeded=False)
            self._out.append(FailRequest(request, failure))

    def _end(self, request: RequestId, succeeded: bool) -> None:
        profile = self.requests.pop(request, None)
        if profile is None:
            return  # failed before by an instruction
        self.reruns.forget(request)
        count = self.counts.pop(request)
        if succeeded:
            self.requests_done += count
        else:
            self.requests_failed += count
        if request in profile.waiting:
            profile.waiting.remove(request)
        if profile.serving:
            profile.serving.requests.discard(request)
        for deployment in list(self.retiring.values()):
            if request in deployment.requests:
                deployment.requests.discard(request)
                self.retire(deployment)

    # ---------------------------------------------------------------------------------------------- stop

    def _stop(self) -> None:
        self.stopping = True
        self._keeper.stop()
        for profile in self.profiles():
            self._abandon(profile)
            self._flush(profile)

    def _finish(self) -> None:
        self._fail_all(list(self.requests), refusals.shutting_down())
        for profile in self.profiles():
            self._keeper.drop(profile)
            if profile.serving:
                self.retire(profile.serving)
                profile.serving = None


def _remembered(event: ModelRequested) -> ModelRecord:
    """The record of a new model. If an earlier run served it, requests wait until this one does."""
    model = ModelRecord(event.entry, event.kept)
    model.interfaces = event.interfaces
    for profile, resumable in zip(model.profiles, event.resumable, strict=bool(event.resumable)):
        profile.resumable, profile.was_ready = resumable, True
    for index, distrusted in event.distrusted.items():
        model.profiles[index].distrusted = distrusted
    return model


def _is_down(profile: ProfileRecord) -> bool:
    """Whether requests wait for a profile that worked before."""
    return profile.serving is None and profile.was_ready
