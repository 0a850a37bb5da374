"""The master at work: carries out what its state decides, and brings requests through.

Everything here runs on one event loop; only planning, compiling and cutting weights run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.core.strategy import SINGLE_DEVICE
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master import refusals
from flexpie.master.admission import Admission, AdmissionLimits, Client
from flexpie.master.archive import Archive, Recalled
from flexpie.master.batch_proofs import BatchProofs
from flexpie.master.batches import BatchCounts, Batches, Inputs, Outputs
from flexpie.master.batching import Batcher
from flexpie.master.cluster_file import ClusterFile, ModelEntry
from flexpie.master.dataplane import DataPlane
from flexpie.master.deploying import Deployer, ResumeError
from flexpie.master.deployment import Deployment
from flexpie.master.drift_watch import DriftWatch
from flexpie.master.events import (
    CalmReturned,
    DeploymentFailed,
    DeploymentId,
    DeploymentReady,
    DeviceAnswered,
    DeviceConnected,
    DeviceLeft,
    DeviceLost,
    DeviceName,
    DeviceRefused,
    DeviceSettled,
    DrainEnded,
    Event,
    GraceEnded,
    LinkChecked,
    LinkName,
    ModelName,
    ModelRequested,
    PauseEnded,
    PeersReported,
    Resumable,
    ResumeFailed,
    RetryDue,
    ShutdownRequested,
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
    ScheduleCalm,
    ScheduleLinkCheck,
    SchedulePause,
    ScheduleRetry,
    ScheduleSettling,
    StartDeployment,
    StartRequest,
    Undeploy,
)
from flexpie.master.interface import choose_profile
from flexpie.master.links import Presence, WorkerLink
from flexpie.master.planning import PIPELINE, Pipeline
from flexpie.master.records import ModelRecord
from flexpie.master.replanning import Replanner
from flexpie.master.saving import Saved
from flexpie.master.self_check import Answer, NotComparableError, SelfCheck
from flexpie.master.serving import batch_profiles, origin
from flexpie.master.standbys import reserved_by
from flexpie.master.state import MasterState
from flexpie.master.turnstile import Turnstile
from flexpie.master.uploads import Upload
from flexpie.security.credentials import Credentials, expires_at
from flexpie.wire.framing import Failure, Frame
from flexpie.wire.limits import MAX_TIMEOUT_SECONDS
from flexpie.wire.tensors import Array
from flexpie.wire.v1 import peer_pb2, worker_pb2
from flexpie.wire.waiting import within

REMOVAL_SECONDS = 5.0
"""How long workers may take to end the deployments of a master that ends."""
REQUESTS_OF_A_RUN = 40
"""Bits for the numbers of the requests of one run."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the operator chooses."""

    request_timeout_seconds: float = 60.0
    """Deadline of a request whose client sets none."""
    admission: AdmissionLimits = field(default_factory=AdmissionLimits)
    """How many requests are held at once."""
    grace_seconds: float = 5.0
    """How long devices have to connect before models are planned without them."""
    standby: bool = True
    """Whether to prepare for the loss of each device, where there is the memory for it."""
    least_gain: float = 0.05
    """By how much a plan must be better than the one that serves to take its place, as a part of what that takes."""
    dead_after_seconds: float | None = None
    """How long a device may say nothing before it counts as lost; None is what the cluster file says."""
    max_models: int = 64
    """That are loaded at once."""


class Master:
    """Devices, models and requests of one cluster."""

    def __init__(
        self,
        file: ClusterFile,
        archive: Archive,
        settings: Settings | None = None,
        planning: Pipeline = PIPELINE,
        credentials: Credentials | None = None,
    ) -> None:
        """`archive` is what earlier runs left, `planning` the way from files to programs, and `credentials` are what
        workers are shown, where connections are encrypted. Nothing happens before
        `start`."""
        self.settings = settings or Settings()
        self.archive = archive
        self._file = file
        master_id = archive.identity[:8]
        names = [device.name for device in file.cluster.devices]
        self._token = f"{master_id}-{archive.run}"
        """Begins the names of what this run deploys."""
        self.state = MasterState(names, token=self._token, standby=self.settings.standby)
        self.turnstile = Turnstile(Admission(self.settings.admission))
        given = self.settings.dead_after_seconds
        heartbeat = file.heartbeat if given is None else Heartbeat(given)
        self.links = {
            device.name: WorkerLink(device, master_id, self, heartbeat, credentials) for device in file.cluster.devices
        }
        self._names = {device.address: device.name for device in file.cluster.devices}
        self._unreachable: dict[DeviceName, frozenset[DeviceName]] = {}
        """What each device said last of its peers."""
        self._proofs = BatchProofs(self._ask, self._server)
        self._deployer = Deployer(
            planning, file.cluster, self.links, master_id, self._handle, archive, self._keep_deployment,
            self._proofs.prove,
        )  # fmt: skip
        self._batches: dict[ModelName, Batches] = {}
        self.batch_counts = BatchCounts()
        self._memory: dict[DeviceName, int] = {}
        self.certificate_ends: dict[DeviceName, int] = {}
        """Of the devices' certificates, in seconds since 1970; 0 for a device without one."""
        self.certificate_end = expires_at(credentials)
        """Of the master's own."""
        self._replanner = Replanner(
            self._deployer, self._memory, self.settings.least_gain, self._handle, lambda work: self._spawn(work)
        )
        self._watch = DriftWatch(self._replanner, time.monotonic, lambda: bool(self._building))
        self.data = DataPlane(self.links, self._handle, self._watch, (archive.run << REQUESTS_OF_A_RUN) + 1)
        members = self.state.members
        self.checks = SelfCheck(file.self_check_every, self._ask_alone, lambda: members.connected, self._handle)
        self.data.answered = self._answered
        self._builds: dict[DeploymentId, asyncio.Task[None]] = {}
        self._building: dict[DeploymentId, StartDeployment] = {}
        self._deployments: dict[DeploymentId, Deployment] = {}
        self._checks = 0
        self._contents: dict[ModelName, str] = {}
        """Hash of the files of each model that a client loaded."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._removals: set[asyncio.Task[Any]] = set()
        """Of deployments from workers."""
        self._timers: set[asyncio.TimerHandle] = set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Connect to the workers and serve the models of the cluster file and of earlier runs, in the background."""
        for recalled in await self.archive.recall(self._file):
            self._serve_again(recalled)
        for link in self.links.values():
            self._spawn(link.run())
        self._later(self.settings.grace_seconds, GraceEnded())

    async def stop(self, drain_seconds: float) -> None:
        """Let requests finish for at most so long, end everything, and leave the workers without our deployments."""
        self._handle(ShutdownRequested())
        deadline = asyncio.get_running_loop().time() + drain_seconds
        while self.data.requests and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await self.changed(left)
        self._handle(DrainEnded())
        if self._removals:
            await asyncio.wait(self._removals, timeout=REMOVAL_SECONDS)
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def planning(self) -> bool:
        """Whether a model is being imported, planned or compiled; nothing can interrupt that."""
        return bool(self._deployer.threads)

    async def changed(self, timeout_seconds: float | None = None) -> None:
        """Wait until something about devices, models or the end of requests changes, or the time is over."""
        with contextlib.suppress(asyncio.TimeoutError):
            await within(timeout_seconds, self._changed.wait())

    # ---------------------------------------------------------------------------------------- models

    def model(self, name: str) -> ModelRecord:
        """A model that is known; raises ``MODEL_NOT_FOUND``."""
        record = self.state.models.get(name)
        if record is None:
            raise refusals.unknown_model(name, self.state.models).error
        return record

    def check_name(self, name: str) -> None:
        """Raise ``MODEL_EXISTS`` for the name of a model that is known, and ``TOO_LARGE`` for one model too many."""
        if name in self.state.models:
            raise FlexPieError(
                ErrorCode.MODEL_EXISTS,
                f"There is a model {name!r} already.",
                "Unload it first, or give the new one another name.",
            )
        if len(self.state.models) >= self.settings.max_models:
            raise FlexPieError(
                ErrorCode.TOO_LARGE,
                f"The master has {len(self.state.models)} of at most {self.settings.max_models} models.",
                "Unload one, or start the master with a higher --max-models.",
            )

    def load(self, entry: ModelEntry, upload: Upload) -> ModelEntry:
        """Begin to serve a model that came as a finished upload; returns its entry with the path where it is kept.

        A restart forgets it until `remember` was called. Raises ``MODEL_EXISTS``.
        """
        self.check_name(entry.name)
        content, path = self.archive.models.take_in(upload)
        self._contents[entry.name] = content
        entry = dataclasses.replace(entry, path=path)
        self._handle(ModelRequested(entry))
        return entry

    async def remember(self, record: ModelRecord) -> None:
        """Serve a loaded model after a restart too, unless it is unloaded meanwhile."""
        entry = record.entry
        await self.archive.keep_model(entry, self._contents[entry.name])
        if self.state.models.get(entry.name) is not record:
            await self.archive.remove_model(entry.name)

    async def withdraw(self, record: ModelRecord) -> None:
        """End a model whose client is not told that it is ready, whatever becomes of the store."""
        name = record.entry.name
        if self.state.models.get(name) is not record:
            return
        self._handle(UnloadRequested(name))
        try:
            await self.archive.remove_model(name)
        except FlexPieError as error:
            _log.warning("model not forgotten model=%s: %s", name, error)

    def reload(self, name: str) -> None:
        """Serve a model of the cluster file again; one that is served already goes on."""
        record = self.model(name)
        self._handle(ModelRequested(record.entry, record.kept))

    async def unload(self, name: str) -> None:
        """Serve a model no longer, nor after a restart; requests in flight finish."""
        record = self.model(name)
        if record.kept:
            await self.archive.trust(name)
        else:
            await self.archive.remove_model(name)
        if self.state.models.get(name) is not record:
            return  # somebody else was faster
        self._handle(UnloadRequested(name))
        _log.info("model unloaded model=%s", name)

    @property
    def ready(self) -> bool:
        """Whether every model of the cluster file takes requests; without models, whether a device is connected."""
        kept = [record for record in self.state.models.values() if record.kept and record.wanted]
        if self.state.stopping:
            return False
        if not kept:
            return bool(self.state.members.connected)
        return all(record.ready for record in kept)

    # -------------------------------------------------------------------------------------- requests

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, tuple[Array, ElementType]],
        timeout_seconds: float | None = None,
        client: Client = None,
    ) -> list[tuple[TensorSpec, Array]]:
        """Answer a request: the model's outputs, in their order. It waits until it is the turn of `client`.

        Raises FlexPieError: MODEL_NOT_FOUND, MODEL_NOT_READY, INVALID_INPUT, OVERLOADED, DEADLINE_EXCEEDED,
        DEVICE_UNREACHABLE, and what workers fail with.
        """
        timeout = self.settings.request_timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = asyncio.get_running_loop().time() + min(timeout, MAX_TIMEOUT_SECONDS)
        record, profile = self._choose(model, inputs)
        nbytes = sum(array.nbytes for array, _ in inputs.values())
        async with self.turnstile.turn(model, client, nbytes, deadline):
            if self.state.models.get(model) is not record:  # it has been loaded anew meanwhile
                record, profile = self._choose(model, inputs)
            if record.entry.serving.batches and record.profiles[profile].serving:
                return await self._batches_of(record).infer(profile, inputs, deadline)
            return await self.data.infer(model, profile, inputs, deadline)

    def _batches_of(self, record: ModelRecord) -> Batches:
        """What gathers a model's requests."""
        entry, serving = record.entry, record.entry.serving
        if entry.name not in self._batches:

            def sizes(profile: int) -> list[int]:
                found = batch_profiles(entry.profiles, profile, serving.max_batch)
                return [size for size, index in found.items() if size == 1 or record.profiles[index].serving]

            async def run(profile: int, size: int, inputs: Inputs, deadline: float) -> Outputs:
                if self.state.models.get(entry.name) is not record:
                    raise refusals.unloaded(entry.name).error
                index = batch_profiles(entry.profiles, profile, serving.max_batch)[size]
                return await self.data.infer(entry.name, index, inputs, deadline, size)

            runs = serving.runs(self.settings.admission.running, self._turns_of(record))
            batcher = Batcher(serving.batch_wait_seconds, runs)
            self._batches[entry.name] = Batches(batcher, sizes, run, self._spawn, self.batch_counts)
        return self._batches[entry.name]

    def _choose(self, model: str, inputs: Mapping[str, tuple[Array, ElementType]]) -> tuple[ModelRecord, int]:
        """The model of a request, and the profile that its inputs fit."""
        record = self.model(model)
        asked_before = any(profile.serving or profile.was_ready for profile in record.profiles)
        return record, choose_profile(model, record.interfaces, inputs) if asked_before else 0

    # ----------------------------------------------------------------------------------------- links

    def link_up(self, device: DeviceName, hello: worker_pb2.HandshakeReply) -> None:
        """See `flexpie.master.links.LinkListener`."""
        _log.info("device connected device=%s worker=%s version=%s", device, hello.worker_id, hello.version)
        self._memory[device] = hello.memory_bytes
        self.certificate_ends[device] = hello.certificate_expires_at
        self._unreachable[device] = frozenset()
        self._handle(DeviceConnected(device, hello.worker_id, hello.version, asyncio.get_running_loop().time()))

    def link_down(self, device: DeviceName, error: FlexPieError) -> None:
        """See `flexpie.master.links.LinkListener`."""
        refused = error.code is ErrorCode.VERSION_MISMATCH
        before = dataclasses.replace(self.state.members.records[device])
        reason = error.message
        now = asyncio.get_running_loop().time()
        self._handle(DeviceRefused(device, reason, now) if refused else DeviceLost(device, reason, now))
        after = self.state.members.records[device]
        if before.state is not after.state or not before.reason:  # once, not at every attempt to connect
            _log.warning("device %s device=%s: %s", "refused" if refused else "unreachable", device, error)

    def frame_arrived(self, device: DeviceName, frame: Frame) -> None:
        """See `flexpie.master.links.LinkListener`."""
        self.data.frame_arrived(device, frame)

    def deployments(self) -> list[DeploymentId]:
        """See `flexpie.master.links.LinkListener`: those that are ready, under way, or of the run before."""
        return [*self._deployments, *self._building, *self._deployer.saved]

    def beat_arrived(self, device: DeviceName, beat: peer_pb2.BeatReply) -> None:
        """See `flexpie.master.links.LinkListener`."""
        for sample in beat.samples:
            self._watch.tell(device, sample)
        unreachable = frozenset(self._names[address] for address in beat.unreachable if address in self._names)
        if unreachable != self._unreachable.get(device):
            self._unreachable[device] = unreachable
            _log.warning(
                "peers of device=%s that it does not reach: %s", device, ", ".join(sorted(unreachable)) or "none"
            )
            self._handle(PeersReported(device, unreachable))

    # ---------------------------------------------------------------------------------- instructions

    def _handle(self, *events: Event) -> None:
        """Tell the state what happened and carry out what it decides."""
        for instruction in self.state.handle(*events):
            self._carry_out(instruction)
        self._changed.set()
        self._changed = asyncio.Event()

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case StartDeployment(deployment):
                self._building[deployment] = instruction
                self._builds[deployment] = self._spawn(self._build(instruction))
            case AbandonDeployment(deployment):
                self._builds[deployment].cancel()
                start = self._building.pop(deployment)
                _log.info("deployment abandoned model=%s deployment=%s", start.entry.name, deployment)
                self._remove(deployment, start.devices)
            case PromoteStandby(deployment):
                _log.info("standby serves deployment=%s", deployment)
                self._deployer.promote(deployment)
                if (planned := self._deployer.planned.get(deployment)) is not None:
                    self._watch.expect(deployment, self._replanner.expectation(planned))
                self._set_places(self._deployments[deployment].model)
            case EndTurns(deployment, device, lost):
                _log.info("turns go on without device=%s deployment=%s", device, deployment)
                left = self._deployments[deployment] = self._deployments[deployment].without(device)
                self.data.replace(left, device if lost else "")
                self._set_places(left.model)
            case Undeploy(deployment, devices):
                self._deployments.pop(deployment, None)
                self._remove(deployment, devices)
            case ForgetModel(model):
                self._deployer.forget(model)
                self.turnstile.admission.forget(model)
                self.checks.forget(model)
                self._batches.pop(model, None)
                self._proofs.forget(model)
                if content := self._contents.pop(model, ""):
                    self.archive.models.release(content)
            case RememberDistrust(model, profile, distrusted):
                entry, content = self.model(model).entry, self._contents.get(model, "")
                self._spawn(self.archive.keep_distrust(entry, profile, content, distrusted))
            case Probe(device):
                self._spawn(self._probe(device))
            case ScheduleSettling(device, connection, seconds):
                self._later(seconds, DeviceSettled(device, connection))
            case ScheduleCalm(loss, seconds):
                self._later(seconds, CalmReturned(loss))
            case ScheduleLinkCheck(link, seconds):
                self._spawn(self._check_link(link, seconds))
            case ScheduleRetry(model, seconds, profile):
                self._later(seconds, RetryDue(model, profile))
            case StartRequest(request, deployment):
                self.data.start(request, self._deployments[deployment])
            case SchedulePause(deployment, seconds):
                self._later(seconds, PauseEnded(deployment))
            case HoldRequest(request):
                self.data.hold(request)
            case FailRequest(request, failure):
                self.data.fail(request, failure)

    async def _build(self, start: StartDeployment) -> None:
        name, devices = start.entry.name, ",".join(start.devices)
        if len(start.entry.profiles) > 1:
            name += f" profile={start.entry.describe(start.profile)}"
        what = "standby" if start.standby else "deployment"
        _log.info("%s started model=%s deployment=%s devices=%s", what, name, start.deployment, devices)
        try:
            deployment = await self._deployer.deploy(start, self._memory)
        except ResumeError as error:
            _log.warning("deployment not resumed model=%s deployment=%s: %s", name, start.deployment, error)
            self._building.pop(start.deployment, None)
            self._remove(start.deployment, start.devices)
            self._handle(ResumeFailed(start.deployment))
        except Exception as error:
            if not isinstance(error, FlexPieError):
                _log.exception("defect while deploying model=%s deployment=%s", name, start.deployment)
                error = FlexPieError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
            _log.warning("%s failed model=%s deployment=%s: %s", what, name, start.deployment, error)
            self._building.pop(start.deployment, None)
            self._remove(start.deployment, start.devices)
            self._handle(DeploymentFailed(start.deployment, Failure.of(error)))
        else:
            self._building.pop(start.deployment, None)
            if (planned := self._deployer.planned.get(start.deployment)) is not None:
                self._watch.expect(start.deployment, self._replanner.expectation(planned))
            if not start.pushed_only:
                self._deployments[start.deployment] = deployment
            self._handle(DeploymentReady(start.deployment, deployment.resident_bytes, deployment.pushed_bytes))
            if start.deployment in self._deployer.resumed:
                self._spawn(self._recall_plan(start))
            if not start.standby:
                self._set_places(start.entry.name)
            _log.info("%s ready model=%s deployment=%s", what, name, start.deployment)
        finally:
            self._builds.pop(start.deployment, None)

    async def _recall_plan(self, start: StartDeployment) -> None:
        if (expectation := await self._replanner.recall(start)) is not None:
            self._watch.expect(start.deployment, expectation)

    def _serve_again(self, recalled: Recalled) -> None:
        saved = recalled.saved
        if recalled.content:
            self.archive.models.use(recalled.content)
            self._contents[recalled.entry.name] = recalled.content
        self._deployer.saved.update({item.deployment.id: item for item in saved})
        interfaces = tuple(item.interface for item in saved)
        resumable = tuple(Resumable(item.deployment.id, item.participants, item.planned_over) for item in saved)
        self._handle(ModelRequested(recalled.entry, not recalled.content, interfaces, resumable, recalled.distrusted))

    def _keep_deployment(self, start: StartDeployment, saved: Saved) -> asyncio.Task[None]:
        name = start.entry.name
        record = self.state.models.get(name)
        entry = record.entry if record is not None else start.entry  # whatever it is planned as now
        content = self._contents.get(name, "")
        return self._spawn(self.archive.keep_deployment(entry, start.profile, content, saved))

    def _answered(
        self, deployment: Deployment, profile: int, inputs: Mapping[str, Array], outputs: Sequence[Array]
    ) -> None:
        if self.checks.is_due(deployment):
            named = {spec.name: array for spec, array in zip(deployment.outputs, outputs, strict=True)}
            self._spawn(self.checks.check(Answer(deployment, profile, inputs, named)))

    async def _ask_alone(
        self, device: DeviceName, model: ModelName, profile: int, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """What one device answers that has the whole model, for as long as this takes."""
        self._checks += 1
        identity = f"{self._token}-check-{self._checks}"
        entry = dataclasses.replace(self.model(model).entry, scheme=SINGLE_DEVICE, objective="latency", plan="")
        profiles = [item for record in self.state.models.values() for item in record.profiles]
        beside = reserved_by(item.serving for item in profiles if item.serving)
        start = StartDeployment(identity, entry, (device,), beside, profile, standby=True)
        self._building[identity] = start
        try:
            deployment = await self._deployer.deploy(start, self._memory)
            self._deployer.standbys.pop(identity, None)
            if self._deployer.draws(model, profile):
                raise NotComparableError("it draws random numbers, which are others every time")
            return await self._ask(deployment, inputs)
        finally:
            self._building.pop(identity, None)
            await self._undeploy(identity, (device,))

    async def _ask(self, deployment: Deployment, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What a deployment answers that may not serve; raises the FlexPieError that ends it."""
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout_seconds
        outputs = await self.data.ask(deployment, inputs, deadline)
        return {spec.name: array for spec, array in zip(deployment.outputs, outputs, strict=True)}

    def _set_places(self, model: ModelName) -> None:
        """A deployment serves: as many of its model's requests run as are wanted, and its devices have room for."""
        record = self.state.models.get(model)
        if record is None:
            return
        entry, rooms = record.entry, []
        for profile in record.profiles:
            found = self._deployments.get(profile.serving.id) if profile.serving else None
            if found is not None and found.max_requests:
                batch = origin(entry.profiles, profile.index, entry.serving.max_batch)
                rooms.append(found.max_requests * (batch[1] if batch else 1))
        most, turns = self.settings.admission.running, self._turns_of(record)
        self.turnstile.admission.set_places(model, entry.serving.places(most, min(rooms, default=None), turns))
        if (batches := self._batches.get(model)) is not None:
            batches.batcher.runs = entry.serving.runs(most, turns)

    def _turns_of(self, record: ModelRecord) -> int:
        """How many devices take turns with a model's requests; 1 where they work together."""
        serving = (self._deployments.get(profile.serving.id) for profile in record.profiles if profile.serving)
        return max((len(deployment.turns) for deployment in serving if deployment), default=1) or 1

    def _server(self, model: ModelName, profile: int) -> Deployment | None:
        """What serves a profile now."""
        record = self.state.models.get(model)
        serving = record.profiles[profile].serving if record else None
        return self._deployments.get(serving.id) if serving else None

    def _remove(self, deployment: DeploymentId, devices: tuple[DeviceName, ...]) -> None:
        task = self._spawn(self._undeploy(deployment, devices))
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _undeploy(self, deployment: DeploymentId, devices: tuple[DeviceName, ...]) -> None:
        self._deployer.forget_deployment(deployment)
        self._watch.forget(deployment)
        for device in devices:
            try:
                await self.links[device].undeploy(deployment)
            except FlexPieError as error:
                if error.code is not ErrorCode.DEVICE_UNREACHABLE:  # a worker that is gone has ended it
                    _log.warning("deployment not removed device=%s deployment=%s: %s", device, deployment, error)

    async def _probe(self, device: DeviceName) -> None:
        match await self.links[device].probe():
            case Presence.SERVING:
                self._handle(DeviceAnswered(device))
            case Presence.LEAVING:
                _log.info("device leaving device=%s", device)
                self._handle(DeviceLeft(device))
            case Presence.GONE:
                pass  # the link tells

    async def _check_link(self, link: LinkName, seconds: float) -> None:
        source, destination = link
        await asyncio.sleep(seconds)
        try:
            works = await self.links[source].check_peer(self.links[destination].device.address)
        except FlexPieError:
            works = False
        if works:
            _log.info("link works again from=%s to=%s", source, destination)
        self._handle(LinkChecked(link, works))

    def _later(self, seconds: float, event: Event) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            self._handle(event)

        timer = asyncio.get_running_loop().call_later(seconds, ring)
        self._timers.add(timer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("defect in the background", exc_info=error)
