"""From a model file to a deployment that is ready: import, plan, compile, push, build."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.program import DeviceProgram
from flexpie.core.turns import turns
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.deployment import Deployment
from flexpie.master.events import (
    DeploymentId,
    DeploymentPlanned,
    DeviceName,
    Event,
    ModelImported,
    ModelName,
    StageReached,
)
from flexpie.master.instructions import StartDeployment
from flexpie.master.interface import Interface
from flexpie.master.planned import Planned, links_of, summarize, usable_cluster
from flexpie.master.planning import Pipeline
from flexpie.master.ports import ports_of
from flexpie.master.saving import Saved, plan_key
from flexpie.master.serving import check_axes, origin
from flexpie.wire.codec import program_to_proto
from flexpie.wire.v1 import worker_pb2

if TYPE_CHECKING:
    from flexpie.compiler import Blob, ImportedModel
    from flexpie.pipeline import Compiled
    from flexpie.planner.planning import PlanningResult

PULSE_SECONDS = 1.0
"""How often a stage that tells nothing else tells for how long it has been going on."""

KEEP_SECONDS = 0.5
"""How long a deployment that is ready waits to be on the disk, at most."""

PUSH_REPORTS = 200
"""How often pushing tells how far it is, at most: a model may have many thousand small weights."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class PlanBook(Protocol):
    """Plans that were found before (`flexpie.master.archive.Archive`)."""

    def find_plan(self, key: str) -> str | None:
        """The text of a plan."""

    def keep_plan(self, key: str, text: str) -> None:
        """Remember a plan."""


async def _believe(start: StartDeployment, models: Sequence[ImportedModel], deployment: Deployment) -> None:
    """Nothing is to be proved."""


class ResumeError(Exception):
    """The workers cannot go on with a deployment of an earlier run."""


class PackageLink(Protocol):
    """The part of a `WorkerLink` that brings packages."""

    async def missing(self, blobs: Sequence[Blob]) -> list[Blob]:
        """Those of the blobs that the worker does not have."""

    async def push(self, blobs: Sequence[Blob], on_pushed: Callable[[int], None]) -> None:
        """Bring blobs to the worker."""

    async def deploy(self, request: worker_pb2.DeployRequest) -> worker_pb2.DeployReply:
        """Have a program built and warmed."""


@dataclass
class Deployer:
    """Carries out `StartDeployment`. What takes long runs in threads: the event loop stays free."""

    pipeline: Pipeline
    cluster: Cluster
    """As it is believed to be: `flexpie.master.replanning` corrects it."""
    links: Mapping[DeviceName, PackageLink]
    master_id: str
    report: Callable[[Event], object]
    plans: PlanBook | None = None
    keep: Callable[[StartDeployment, Saved], asyncio.Future[None] | None] = lambda start, saved: None
    """Called with a deployment that is ready, to go on with it after a restart; returns what is done when it is on
    the disk."""
    prove: Callable[[StartDeployment, Sequence[ImportedModel], Deployment], Awaitable[None]] = _believe
    """Called with a deployment that is ready and not yet kept; raises FlexPieError if it is not to serve."""
    saved: dict[DeploymentId, Saved] = field(default_factory=dict)
    """Deployments of earlier runs, until they are started."""
    standbys: dict[DeploymentId, tuple[StartDeployment, Saved]] = field(default_factory=dict)
    """Standbys that are ready and do not serve; a restarted master does not go on with them."""
    resumed: dict[DeploymentId, Saved] = field(default_factory=dict)
    """Deployments of earlier runs that are there, until their plans were read."""
    planned: dict[DeploymentId, Planned] = field(default_factory=dict)
    """How deployments that are there were planned."""
    imports: dict[ModelName, asyncio.Task[tuple[ImportedModel, ...]]] = field(default_factory=dict)
    """A model is read once for each of its profiles, however often it is planned."""
    threads: set[int] = field(default_factory=set)
    """Identities of threads that import, plan or compile; nothing can interrupt them."""

    async def deploy(self, start: StartDeployment, memory: Mapping[DeviceName, int]) -> Deployment:
        """Deploy a profile of a model; reports every stage but the last, `DeploymentReady`, which is the caller's.

        `memory` is the limit in bytes that workers say they have. Raises FlexPieError when a stage fails, ResumeError
        for a deployment of an earlier run that is to be made anew.
        """
        if (saved := self.saved.pop(start.deployment, None)) is not None:
            return await self._resume(start, saved)
        models = await self._import(start)
        with _about_profile(start.entry, start.profile):
            return await self._deploy(start, models, usable_cluster(self.cluster, start, memory))

    async def _deploy(self, start: StartDeployment, models: Sequence[ImportedModel], cluster: Cluster) -> Deployment:
        model = models[start.profile]
        result, remark = await self._stage(start, "plan", self._in_thread(self._plan, start, models, cluster))
        _log.info("planned model=%s deployment=%s: %s", start.entry.name, start.deployment, result.reason)
        self.planned[start.deployment] = Planned(start, result, cluster)
        compiling = self._in_thread(self.pipeline.compile_plan, model, result.plan)
        compiled = await self._stage(start, "compile", compiling)
        deployment = _deployment(start, model.graph, compiled)
        summary = summarize(model.graph, result, deployment, compiled, remark)
        self.report(DeploymentPlanned(start.deployment, summary))
        pushed = await self._push(deployment, compiled)
        if start.pushed_only:
            self.forget_deployment(start.deployment)  # it never runs
            return dataclasses.replace(deployment, pushed_bytes=pushed)
        programs = {index: _program(compiled, index) for index in deployment.participants}
        ready = await self._build(deployment, programs, in_background=start.standby)
        await self.prove(start, models, ready)
        interface = _interface(start.entry, start.profile, model)
        text = self.pipeline.write_plan(model, cluster, result.plan)
        saved = Saved(deployment, start.devices, programs, interface, summary, text)
        if start.standby:
            self.standbys[deployment.id] = start, saved
        elif not start.interim:
            await self._keep(start, saved)
        return dataclasses.replace(ready, pushed_bytes=pushed)

    def forget_deployment(self, deployment: DeploymentId) -> None:
        """A deployment has ended."""
        self.saved.pop(deployment, None)
        self.resumed.pop(deployment, None)
        self.planned.pop(deployment, None)
        self.standbys.pop(deployment, None)

    def planned_over(self, deployment: DeploymentId, planned: Planned, plan_file: str) -> None:
        """A standby is the best plan over more devices than it was made for."""
        if (standby := self.standbys.get(deployment)) is not None:
            start, saved = standby
            saved = dataclasses.replace(saved, planned_over=planned.start.devices, plan_file=plan_file)
            self.standbys[deployment] = start, saved

    def promote(self, deployment: DeploymentId) -> None:
        """A standby serves from now on."""
        if (standby := self.standbys.pop(deployment, None)) is not None:
            self.keep(*standby)

    async def _keep(self, start: StartDeployment, saved: Saved) -> None:
        """What is said to be ready is on the disk, so that a master that is killed the moment after goes on with it; a
        disk that is slow or a store that is locked holds nothing up for long."""
        if (writing := self.keep(start, saved)) is not None:
            await asyncio.wait({writing}, timeout=KEEP_SECONDS)

    async def _resume(self, start: StartDeployment, saved: Saved) -> Deployment:
        """Go on with a deployment of an earlier run: workers that still have it say so, others build it from what their
        stores hold. Nothing is pushed."""
        links = links_of(saved.deployment.devices, saved.programs.values())
        self.report(DeploymentPlanned(start.deployment, dataclasses.replace(saved.summary, links=links)))
        try:
            deployment = await self._build(saved.deployment, saved.programs)
        except FlexPieError as error:
            if error.code is ErrorCode.DEVICE_UNREACHABLE:
                raise
            raise ResumeError(error.message) from error
        self.resumed[start.deployment] = saved
        return deployment

    def _plan(
        self, start: StartDeployment, models: Sequence[ImportedModel], cluster: Cluster
    ) -> tuple[PlanningResult, str]:
        """The plan that was given, where all its devices are there, or else the one that is found; and what users
        should know about it."""
        entry, model, remark = start.entry, models[start.profile], start.remark
        siblings = [models[index] for index in start.siblings]
        if entry.plan and not start.only:
            given = self.pipeline.read_plan(entry.plan, model, self.cluster)
            names = [device.name for device in cluster.devices]
            if (here := given.on(names)) is not None:
                return self.pipeline.predict_plan(model, cluster, here), ""
            lost = ", ".join(given.devices[index] for index in given.participants if given.devices[index] not in names)
            remark = f"planned anew: the plan that was given needs {lost}"
            _log.warning("%s model=%s deployment=%s", remark, entry.name, start.deployment)
            entry = dataclasses.replace(entry, boundary=given.boundary)
        return self._found(model, cluster, entry, siblings), remark

    def _found(
        self, model: ImportedModel, cluster: Cluster, entry: ModelEntry, siblings: Sequence[ImportedModel]
    ) -> PlanningResult:
        """The plan that was found for the same question before, or else the one that is found now."""
        wanted = (entry.scheme, entry.objective)
        if self.plans is None:
            return self.pipeline.plan_model(model, cluster, *wanted, siblings, entry.boundary)
        others = [sibling.graph.signature for sibling in siblings]
        key = plan_key(model.graph.signature, others, cluster, *wanted, entry.boundary)
        if text := self.plans.find_plan(key):
            try:
                return self.pipeline.predict_plan(model, cluster, self.pipeline.read_plan(text, model, cluster))
            except FlexPieError as error:
                _log.warning("plan not used again model=%s: %s", entry.name, error)
        result = self.pipeline.plan_model(model, cluster, *wanted, siblings, entry.boundary)
        self.plans.keep_plan(key, self.pipeline.write_plan(model, cluster, result.plan))
        return result

    async def _stage(self, start: StartDeployment, stage: str, work: Awaitable[_Result]) -> _Result:
        """Await a stage that tells nothing itself, and tell for how long it has been going on."""
        self.report(StageReached(start.deployment, stage))
        loop = asyncio.get_running_loop()
        began, task = loop.time(), asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=PULSE_SECONDS))[0]:
                seconds = round(loop.time() - began)
                self.report(StageReached(start.deployment, stage, seconds, 0, "seconds"))
            return task.result()
        finally:
            task.cancel()

    async def _in_thread(
        self, work: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        def run() -> _Result:
            self.threads.add(threading.get_ident())
            try:
                return work(*args, **kwargs)
            finally:
                self.threads.discard(threading.get_ident())

        return await asyncio.to_thread(run)

    def draws(self, model: ModelName, profile: int) -> bool:
        """Whether a model that was read draws random numbers."""
        graph = self.imports[model].result()[profile].graph
        return any(operator.draws for operator in graph.operators())

    def forget(self, model: ModelName) -> None:
        """Drop what was read of a model."""
        self.imports.pop(model, None)

    async def _import(self, start: StartDeployment) -> tuple[ImportedModel, ...]:
        """The model under each of its profiles: what is wrong with one is told before any is deployed."""
        entry = start.entry
        try:
            models = await self._stage(start, "import", self.read(entry))
        except Exception:
            self.forget(entry.name)  # the file may be there next time
            raise
        interfaces = tuple(_interface(entry, index, model) for index, model in enumerate(models))
        _check_different(entry, interfaces)
        _check_batches(entry, interfaces)
        self.report(ModelImported(entry.name, interfaces))
        return models

    def read(self, entry: ModelEntry) -> asyncio.Future[tuple[ImportedModel, ...]]:
        """The model under each of its profiles, read once. Who does not wait for it any more may be cancelled: whoever
        needs it next goes on with the same import."""
        if entry.name not in self.imports:
            self.imports[entry.name] = asyncio.create_task(self._read(entry))
            self.imports[entry.name].add_done_callback(_notice)  # nobody may be left to hear how it ends
        return asyncio.shield(self.imports[entry.name])

    async def _read(self, entry: ModelEntry) -> tuple[ImportedModel, ...]:
        models: list[ImportedModel] = []
        for index, shapes in enumerate(entry.profiles):
            twin = models[0] if models else None
            with _about_profile(entry, index):
                reading = self._in_thread(self.pipeline.import_file, entry.path, shapes, entry.name, twin)
                models.append(await reading)
        return tuple(models)

    async def _push(self, deployment: Deployment, compiled: Compiled) -> int:
        """Bring to each participant what it lacks, to all of them at once; returns the bytes pushed."""
        self.report(StageReached(deployment.id, "push", 0, 0, "bytes"))
        links = [self.links[name] for name in deployment.names]
        needed = [_blobs_of(_program(compiled, index), compiled) for index in deployment.participants]
        missing = await together(link.missing(blobs) for link, blobs in zip(links, needed, strict=True))
        total = sum(blob.ref.nbytes for blobs in missing for blob in blobs)
        done = told = 0

        def on_pushed(nbytes: int) -> None:
            nonlocal done, told
            done += nbytes
            if done == total or done - told >= total / PUSH_REPORTS:
                told = done
                self.report(StageReached(deployment.id, "push", done, total, "bytes"))

        await together(link.push(blobs, on_pushed) for link, blobs in zip(links, missing, strict=True) if blobs)
        return total

    async def _build(
        self, deployment: Deployment, programs: Mapping[int, DeviceProgram], *, in_background: bool = False
    ) -> Deployment:
        """Have every participant build its sessions; returns the deployment with what it takes of their memory."""
        total = len(deployment.participants)
        done = 0
        self.report(StageReached(deployment.id, "build", done, total, "devices"))

        async def build(index: int) -> worker_pb2.DeployReply:
            nonlocal done
            request = self._deploy_request(deployment, programs[index], in_background)
            reply = await self.links[deployment.devices[index]].deploy(request)
            done += 1
            self.report(StageReached(deployment.id, "build", done, total, "devices"))
            return reply

        replies = await together(build(index) for index in deployment.participants)
        resident = {name: reply.resident_bytes for name, reply in zip(deployment.names, replies, strict=True)}
        rooms = zip(deployment.participants, (reply.max_requests for reply in replies), strict=True)
        room = {index: requests for index, requests in rooms if requests}
        return dataclasses.replace(deployment, resident_bytes=resident, room=room)

    def _deploy_request(
        self, deployment: Deployment, program: DeviceProgram, in_background: bool
    ) -> worker_pb2.DeployRequest:
        addresses = {device.name: device.address for device in self.cluster.devices}
        return worker_pb2.DeployRequest(
            deployment_id=deployment.id,
            program=program_to_proto(program),
            peers={index: addresses[deployment.devices[index]] for index in program.peers},
            model=deployment.model,
            device_names=deployment.devices,
            master_id=self.master_id,
            in_background=in_background,
        )


def _notice(task: asyncio.Task[Any]) -> None:
    """Take note of a task's error, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()


def _interface(entry: ModelEntry, index: int, model: ImportedModel) -> Interface:
    with _about_profile(entry, index):
        return Interface(*ports_of(model))


@contextmanager
def _about_profile(entry: ModelEntry, index: int) -> Iterator[None]:
    """Say in errors which of several profiles they are about."""
    try:
        yield
    except FlexPieError as error:
        if len(entry.profiles) == 1:
            raise
        text = f"Profile {entry.describe(index)} of {entry.name}: {error.message}"
        raise FlexPieError(error.code, text, error.remedy) from error


def _check_different(entry: ModelEntry, interfaces: Sequence[Interface]) -> None:
    """A request's shapes must tell its profile."""
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    for index, interface in enumerate(interfaces):
        first = seen.setdefault(interface.shapes, index)
        if first != index:
            raise FlexPieError(
                ErrorCode.INVALID_SHAPE,
                f"The profiles {entry.describe(first)} and {entry.describe(index)} of {entry.name} give its inputs "
                "the same shapes.",
                "Leave one of them away.",
            )


def _check_batches(entry: ModelEntry, interfaces: Sequence[Interface]) -> None:
    """What is gathered must be longer along the first axis, and the same otherwise."""
    for index, interface in enumerate(interfaces):
        if (found := origin(entry.profiles, index, entry.serving.max_batch)) is not None:
            check_axes(entry.name, interfaces[found[0]], interface, found[1])


def _deployment(start: StartDeployment, graph: LayerGraph, compiled: Compiled) -> Deployment:
    participants = tuple(index for index, program in enumerate(compiled.programs) if program is not None)
    return Deployment(
        id=start.deployment,
        model=start.entry.name,
        devices=compiled.plan.devices,
        participants=participants,
        program=compiled.master,
        outputs=tuple(graph.tensors[name] for name in graph.outputs),
        boundary=compiled.plan.boundary,
        turns=turns(compiled.plan.segments),
    )


def _program(compiled: Compiled, index: int) -> DeviceProgram:
    program = compiled.programs[index]
    assert program is not None, "only participants are deployed"
    return program


def _blobs_of(program: DeviceProgram, compiled: Compiled) -> list[Blob]:
    """What a program refers to, each blob once."""
    refs = [ref for subgraph in program.subgraphs for ref in (subgraph.model, *subgraph.weights)]
    return [compiled.blobs[sha256] for sha256 in dict.fromkeys(ref.sha256 for ref in refs)]


async def together(parts: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Await all at once; when one fails the others are cancelled."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
