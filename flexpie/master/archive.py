"""What a master remembers from one run to the next: the models that it was given, what was deployed, and plans.

Everything is written on one thread, in the order in which it happened; nothing here waits on the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.hashing import file_digest
from flexpie.master.cluster_file import ClusterFile, ModelEntry
from flexpie.master.events import PlanDistrusted
from flexpie.master.model_files import ModelFiles, content_of
from flexpie.master.saving import Saved, cluster_text, fingerprint, saved_from_bytes, saved_to_bytes
from flexpie.master.serving import Serving
from flexpie.master.store import Store, StoredDeployment, StoredDistrust, StoredModel

MODELS = "models"
"""Where in the state folder the models lie."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recalled:
    """A model that is to be served again."""

    entry: ModelEntry
    content: str = ""
    """Hash of its files, for one that a client loaded; empty for one of the cluster file."""
    saved: tuple[Saved, ...] = ()
    """How its profiles were deployed, in their order; empty unless all of that still holds."""
    distrusted: Mapping[int, PlanDistrusted] = field(default_factory=dict)
    """By profile: why it is not divided any more."""


class Archive:
    """The state folder of a master that runs."""

    def __init__(self, folder: Path, identity: str, file: ClusterFile) -> None:
        """Raises ``INVALID_STATE`` for a store that cannot be used, ``INVALID_ARGUMENT`` for a folder that cannot."""
        self.identity = identity
        """Of the master; workers know it again by this."""
        try:
            self.models = ModelFiles(folder / MODELS)
        except OSError as error:
            what = f"The state folder {folder} cannot be used: {error.strerror or error}."
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, "Give another one with --state-dir.") from error
        self._store = Store(folder)
        self._cluster = file.cluster
        run, before = self._store.begin_run(_cluster_hash(file.cluster), file.calibration)
        self.run = run.number
        """Counts the starts of this master."""
        if before is not None and before.cluster != run.cluster:
            changed = "calibration" if before.calibration != run.calibration else "cluster file"
            _log.info("the %s has changed since the last start: models are planned anew", changed)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive")

    def close(self) -> None:
        """Finish what is being written."""
        self._thread.shutdown()
        self._store.close()

    # ----------------------------------------------------------------------------------------- models

    async def recall(self, file: ClusterFile) -> list[Recalled]:
        """The models to serve: those of the cluster file, then those that clients loaded."""
        return await self._on_thread(self._recall, file)

    async def keep_model(self, entry: ModelEntry, content: str) -> None:
        """Remember a model that a client loaded, from now on whatever happens."""
        file = entry.path.relative_to(self.models.folder / content).as_posix()
        serving = entry.serving
        stored = StoredModel(entry.name, content, file, entry.profiles, entry.scheme, entry.objective, entry.plan,
                             serving.in_flight, serving.max_batch, serving.batch_wait_seconds,
                             entry.boundary.value)  # fmt: skip
        await self._on_thread(self._store.keep_model, stored)

    async def remove_model(self, name: str) -> None:
        """Forget a model that a client loaded."""
        await self._on_thread(self._store.remove_model, name)

    def _recall(self, file: ClusterFile) -> list[Recalled]:
        recalled = [self._recalled(entry) for entry in file.models]
        names = {entry.name for entry in file.models}
        stored = self._store.models()
        for model in stored:
            serving = Serving(model.in_flight, model.max_batch, model.batch_wait_seconds)
            entry = ModelEntry(model.name, self.models.path(model.content, model.file), model.profiles, model.scheme,
                               model.plan, model.objective, serving, Boundary(model.boundary))  # fmt: skip
            if model.name in names:
                _log.warning("model not loaded again model=%s: the cluster file has one of this name", model.name)
            elif not entry.path.is_file():
                _log.error("model lost model=%s: %s is not there any more; load it again", model.name, entry.path)
                self._store.remove_model(model.name)
            else:
                recalled.append(self._recalled(entry, model.content))
        self.models.clean(model.content for model in stored)
        return recalled

    def _recalled(self, entry: ModelEntry, loaded: str = "") -> Recalled:
        """What is known of a model; `loaded` is the hash of its files if a client loaded it."""
        try:
            content = loaded or content_of(entry.path, self._hash_file)
        except OSError:
            return Recalled(entry)
        distrusted = {
            profile: PlanDistrusted("", found.reason, found.trusted)
            for profile, found in self._store.distrusted(entry.name).items()
            if found.content == content and profile < len(entry.profiles)
        }
        return Recalled(entry, loaded, self._saved(entry, content), distrusted)

    def _saved(self, entry: ModelEntry, content: str) -> tuple[Saved, ...]:
        stored = self._store.deployments(entry.name)
        if len(stored) != len(entry.profiles):
            return ()
        found = []
        for profile in range(len(entry.profiles)):
            deployment = stored.get(profile)
            if deployment is None or deployment.fingerprint != fingerprint(content, entry, profile, self._cluster):
                return ()
            if (saved := saved_from_bytes(deployment.content, entry.name)) is None:
                return ()
            found.append(saved)
        return tuple(found)

    def _hash_file(self, path: Path) -> str:
        """The hash of a file, which is read only if it has changed."""
        stat = path.stat()
        known = self._store.file_hash(path, stat.st_size, stat.st_mtime_ns)
        if known is None:
            known = file_digest(path)
            self._store.keep_file_hash(path, stat.st_size, stat.st_mtime_ns, known)
        return known

    # ------------------------------------------------------------------------------------ deployments

    async def keep_deployment(self, entry: ModelEntry, profile: int, content: str, saved: Saved) -> None:
        """Remember a deployment that is ready; `content` is empty for a model of the cluster file."""
        await self._on_thread(self._keep_deployment, entry, profile, content, saved)

    def _keep_deployment(self, entry: ModelEntry, profile: int, content: str, saved: Saved) -> None:
        try:
            content = content or content_of(entry.path, self._hash_file)
            key = fingerprint(content, entry, profile, self._cluster)
            self._store.keep_deployment(entry.name, profile, StoredDeployment(key, saved_to_bytes(saved)))
        except (OSError, FlexPieError) as error:  # it serves all the same; a restart will plan it again
            _log.warning("deployment not remembered model=%s: %s", entry.name, error)

    async def keep_distrust(self, entry: ModelEntry, profile: int, content: str, found: PlanDistrusted) -> None:
        """Remember that a profile is not to be divided any more; `content` as for `keep_deployment`."""
        await self._on_thread(self._keep_distrust, entry, profile, content, found)

    async def trust(self, name: str) -> None:
        """Forget that a model was not to be divided."""
        await self._on_thread(self._store.trust, name)

    def _keep_distrust(self, entry: ModelEntry, profile: int, content: str, found: PlanDistrusted) -> None:
        try:
            content = content or content_of(entry.path, self._hash_file)
            self._store.keep_distrust(entry.name, profile, StoredDistrust(content, found.reason, found.trusted))
        except (OSError, FlexPieError) as error:
            _log.error("wrong answers not remembered, a restart divides it again model=%s: %s", entry.name, error)

    # ------------------------------------------------------------------------------------------ plans

    def find_plan(self, key: str) -> str | None:
        """The text of a plan that was found before; None where the store cannot be used now. Waits for the store: not
        for the event loop."""
        try:
            return self._thread.submit(self._store.plan, key).result()
        except FlexPieError as error:
            _log.warning("no earlier plan is used: %s", error)
            return None

    def keep_plan(self, key: str, text: str) -> None:
        """Remember a plan. Does not wait."""
        self._thread.submit(self._store.keep_plan, key, text).add_done_callback(_complain)

    # ---------------------------------------------------------------------------------------- threads

    async def _on_thread(
        self, work: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        return await asyncio.wrap_future(self._thread.submit(work, *args, **kwargs))


def _complain(future: object) -> None:
    error = getattr(future, "exception", lambda: None)()
    if error is not None:
        _log.warning("plan not remembered: %s", error)


def _cluster_hash(cluster: Cluster) -> str:
    return hashlib.sha256(cluster_text(cluster).encode()).hexdigest()
