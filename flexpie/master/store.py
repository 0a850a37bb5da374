"""The master's store: one SQLite file with what must survive a restart.

Every change is one transaction, so that a process that is killed at any moment leaves either what was there before or
what is there now. The file may be used from one thread at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flexpie.core.boundary import Boundary
from flexpie.core.errors import ErrorCode, FlexPieError

FILE_NAME = "master.db"
VERSION = 2
"""Of the tables; a file of another version is left alone."""
LOCKED_SECONDS = 1.0
"""How long to wait for somebody else who writes to the file."""
MOST_PLANS = 256
"""That are remembered; the ones that were used longest ago go."""

_APPLICATION = 0x464C5850
"""Marks the file as ours ("FLXP")."""
_SCHEMA = """
CREATE TABLE runs (number INTEGER PRIMARY KEY AUTOINCREMENT, cluster TEXT NOT NULL, calibration TEXT NOT NULL);
CREATE TABLE models (
    name TEXT PRIMARY KEY, content TEXT NOT NULL, file TEXT NOT NULL, profiles TEXT NOT NULL, scheme TEXT NOT NULL,
    objective TEXT NOT NULL, plan TEXT NOT NULL, in_flight INTEGER NOT NULL, max_batch INTEGER NOT NULL,
    batch_wait_seconds REAL NOT NULL
);
CREATE TABLE deployments (
    model TEXT NOT NULL, profile INTEGER NOT NULL, fingerprint TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (model, profile)
);
CREATE TABLE plans (key TEXT PRIMARY KEY, text TEXT NOT NULL, used INTEGER NOT NULL);
CREATE TABLE files (path TEXT PRIMARY KEY, nbytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT NOT NULL);
"""
_ADDED = """
CREATE TABLE IF NOT EXISTS distrusted (
    model TEXT NOT NULL, profile INTEGER NOT NULL, content TEXT NOT NULL, reason TEXT NOT NULL, trusted TEXT NOT NULL,
    PRIMARY KEY (model, profile)
);
CREATE TABLE IF NOT EXISTS boundaries (model TEXT PRIMARY KEY, boundary TEXT NOT NULL);
"""
"""What a file of the same version may lack, if an earlier FlexPie wrote it."""
_REMEDY = (
    "It was left as it is. Start the FlexPie that wrote it, give another --state-dir, or move the file away and load "
    "the models again."
)
_HELPS = {
    "disk is full": "Make room on its disk. What was kept before is still there.",
    "is locked": "End the other program that has the file open.",
    "readonly": "Let the user that runs the master write it.",
    "disk I/O error": "Look at the disk.",
}
"""What helps where the file itself is fine, by what SQLite says."""


@dataclass(frozen=True)
class StoredModel:
    """A model that a client loaded."""

    name: str
    content: str
    """Hash of its files, and name of the folder in which they lie."""
    file: str
    """The model's own file, relative to that folder."""
    profiles: tuple[Mapping[str, tuple[int, ...]], ...]
    scheme: str
    objective: str
    plan: str
    """Text of the plan file that was given with it; may be empty."""
    in_flight: int = 0
    max_batch: int = 1
    batch_wait_seconds: float = 0.0
    """See `flexpie.master.serving.Serving`."""
    boundary: str = Boundary.FLOAT32.value
    """What float32 tensors are between devices."""


@dataclass(frozen=True)
class StoredDeployment:
    """The last deployment of a profile that was ready."""

    fingerprint: str
    """Of everything that it follows from: the model's content and options, the cluster with its calibration."""
    content: bytes
    """A ``SavedDeployment`` message."""


@dataclass(frozen=True)
class StoredDistrust:
    """A profile of which answers were found to be wrong: it is not divided any more."""

    content: str
    """Hash of the model's files."""
    reason: str
    trusted: frozenset[str]
    """Devices that compute the same, each alone."""


@dataclass(frozen=True)
class Run:
    """One start of a master on this store."""

    number: int
    """Counts starts from 1."""
    cluster: str
    """Hash of the cluster that it was started for."""
    calibration: str
    """When that was calibrated; empty if it was not."""


class Store:
    """The open store.

    Whatever reads or writes raises ``INVALID_STATE`` where the file is damaged, the disk full, or the file in use.
    """

    def __init__(self, folder: Path) -> None:
        """Open the store in a folder, or make it.

        Raises ``INVALID_STATE`` for a file that is damaged, of another version, or none of ours. It is not changed.
        """
        self.path = folder / FILE_NAME
        try:
            # Autocommit: transactions are begun where they are needed.
            self._db = sqlite3.connect(self.path, LOCKED_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise self._unusable(str(error)) from error
        except UnicodeDecodeError as error:  # SQLite quotes what is damaged
            self._db.close()
            raise self._unusable(_reason(error)) from error
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ------------------------------------------------------------------------------------------- runs

    def begin_run(self, cluster: str, calibration: str) -> tuple[Run, Run | None]:
        """Note that a master starts; returns this run and the one before, if there was one."""
        with self._explained(), self._transaction():
            row = self._db.execute("SELECT * FROM runs ORDER BY number DESC LIMIT 1").fetchone()
            added = self._db.execute("INSERT INTO runs (cluster, calibration) VALUES (?, ?)", (cluster, calibration))
            number = added.lastrowid or 0
            self._db.execute("DELETE FROM runs WHERE number < ?", (number,))
        return Run(number, cluster, calibration), Run(*row) if row else None

    # ----------------------------------------------------------------------------------------- models

    def models(self) -> list[StoredModel]:
        """Every model that clients loaded, in the order in which they did."""
        with self._explained():
            known = "SELECT models.*, IFNULL(boundary, ?) FROM models LEFT JOIN boundaries ON model = name"
            rows = self._db.execute(f"{known} ORDER BY models.rowid", (Boundary.FLOAT32.value,)).fetchall()
            return [StoredModel(name, content, file, _profiles(profiles), *rest)
                    for name, content, file, profiles, *rest in rows]  # fmt: skip

    def keep_model(self, model: StoredModel) -> None:
        """Remember a model; one of the same name is replaced."""
        profiles = json.dumps([dict(shapes) for shapes in model.profiles])
        row = (model.name, model.content, model.file, profiles, model.scheme, model.objective, model.plan,
               model.in_flight, model.max_batch, model.batch_wait_seconds)  # fmt: skip
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("INSERT OR REPLACE INTO boundaries VALUES (?, ?)", (model.name, model.boundary))

    def remove_model(self, name: str) -> None:
        """Forget a model and its deployments."""
        with self._transaction():
            self._db.execute("DELETE FROM models WHERE name = ?", (name,))
            self._db.execute("DELETE FROM deployments WHERE model = ?", (name,))
            self._db.execute("DELETE FROM distrusted WHERE model = ?", (name,))
            self._db.execute("DELETE FROM boundaries WHERE model = ?", (name,))

    # ------------------------------------------------------------------------------------ deployments

    def deployments(self, model: str) -> dict[int, StoredDeployment]:
        """What was ready of a model, by profile."""
        query = "SELECT profile, fingerprint, content FROM deployments WHERE model = ?"
        with self._explained():
            return {profile: StoredDeployment(*rest) for profile, *rest in self._db.execute(query, (model,))}

    def keep_deployment(self, model: str, profile: int, deployment: StoredDeployment) -> None:
        """Remember a deployment that is ready, instead of the one before it."""
        row = (model, profile, deployment.fingerprint, deployment.content)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO deployments VALUES (?, ?, ?, ?)", row)

    def distrusted(self, model: str) -> dict[int, StoredDistrust]:
        """What was found to be wrong of a model, by profile."""
        query = "SELECT profile, content, reason, trusted FROM distrusted WHERE model = ?"
        with self._explained():
            rows = self._db.execute(query, (model,)).fetchall()
            return {profile: StoredDistrust(content, reason, frozenset(json.loads(trusted)))
                    for profile, content, reason, trusted in rows}  # fmt: skip

    def keep_distrust(self, model: str, profile: int, distrust: StoredDistrust) -> None:
        """Remember that a profile's answers were wrong, and forget how it was deployed."""
        row = (model, profile, distrust.content, distrust.reason, json.dumps(sorted(distrust.trusted)))
        with self._transaction():
            self._db.execute("DELETE FROM deployments WHERE model = ? AND profile = ?", (model, profile))
            self._db.execute("INSERT OR REPLACE INTO distrusted VALUES (?, ?, ?, ?, ?)", row)

    def trust(self, model: str) -> None:
        """Forget that answers of a model were wrong."""
        with self._transaction():
            self._db.execute("DELETE FROM distrusted WHERE model = ?", (model,))

    # ------------------------------------------------------------------------------------------ plans

    def plan(self, key: str) -> str | None:
        """The text of a plan that was found before."""
        with self._explained(), self._transaction():
            row = self._db.execute("SELECT text FROM plans WHERE key = ?", (key,)).fetchone()
            if row:
                self._use(key)
        return str(row[0]) if row else None

    def keep_plan(self, key: str, text: str) -> None:
        """Remember a plan."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, 0)", (key, text))
            self._use(key)
            newest = "SELECT key FROM plans ORDER BY used DESC LIMIT ?"
            self._db.execute(f"DELETE FROM plans WHERE key NOT IN ({newest})", (MOST_PLANS,))

    def _use(self, key: str) -> None:
        self._db.execute("UPDATE plans SET used = (SELECT MAX(used) + 1 FROM plans) WHERE key = ?", (key,))

    # ------------------------------------------------------------------------------------------ files

    def file_hash(self, path: Path, nbytes: int, modified_ns: int) -> str | None:
        """The hash of a file that was read before, if it is still the same."""
        query = "SELECT sha256 FROM files WHERE path = ? AND nbytes = ? AND modified_ns = ?"
        with self._explained():
            row = self._db.execute(query, (str(path), nbytes, modified_ns)).fetchone()
        return str(row[0]) if row else None

    def keep_file_hash(self, path: Path, nbytes: int, modified_ns: int, sha256: str) -> None:
        """Remember the hash of a file."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                             (str(path), nbytes, modified_ns, sha256))  # fmt: skip

    # ------------------------------------------------------------------------------------------- file

    def _prepare(self) -> None:
        application, version = self._pragma("application_id"), self._pragma("user_version")
        if (application, version) == (0, 0) and not self._db.execute("SELECT * FROM sqlite_master").fetchone():
            self._create()
        elif application != _APPLICATION:
            raise self._unusable("it is another program's")
        elif version != VERSION:
            raise self._unusable(f"it has version {version}, and this FlexPie reads version {VERSION}")
        elif (finding := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise self._unusable(f"it is damaged: {finding}")
        self._db.executescript(_ADDED)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what was confirmed survives a loss of power as well

    def _create(self) -> None:
        with self._transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All changes or none; afterwards no transaction is open, whatever went wrong."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except (sqlite3.OperationalError, UnicodeDecodeError) as error:
            raise self._unusable(_reason(error)) from error
        finally:
            if self._db.in_transaction:  # where the disk is full, SQLite has ended it itself
                self._db.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what it means when the file cannot be used, or what is read is not what was written."""
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, TypeError, AttributeError) as error:
            raise self._unusable(_reason(error)) from error

    def _unusable(self, why: str) -> FlexPieError:
        remedy = next((helps for sign, helps in _HELPS.items() if sign in why), _REMEDY)
        return FlexPieError(ErrorCode.INVALID_STATE, f"The store {self.path} cannot be used: {why}.", remedy)


def _reason(error: Exception) -> str:
    """Why the file cannot be used; the file itself is to blame only where nothing else is."""
    if isinstance(error, UnicodeDecodeError):
        return "it is damaged, names in it too"
    text = str(error)
    return text if any(sign in text for sign in _HELPS) else f"it is damaged: {text}"


def _profiles(text: str) -> tuple[dict[str, tuple[int, ...]], ...]:
    return tuple({name: tuple(shape) for name, shape in shapes.items()} for shapes in json.loads(text))
