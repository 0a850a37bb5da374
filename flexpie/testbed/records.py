"""What is noted about each testbed, so that others see it and what a crash leaves can be removed."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("/run/flexpie/testbeds")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, also when its number is used again."""

    pid: int
    started: int
    """In clock ticks since the machine was started; 0 when it was gone already."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.started != 0 and _started(self.pid) == self.started


def identify(pid: int) -> ProcessIdentity:
    """The process that has this number now."""
    return ProcessIdentity(pid, _started(pid))


@dataclass(frozen=True)
class DeviceRecord:
    """A device of a testbed, for those who look at it."""

    name: str
    address: str
    """``host:port`` of its worker."""
    cpu: float
    bandwidth_bits_per_second: float
    worker: ProcessIdentity


@dataclass(frozen=True)
class RunRecord:
    """A testbed that runs, or that a crash left behind."""

    run: str
    owner: ProcessIdentity
    """It keeps the testbed and removes it."""
    folder: str
    """Logs, worker states and the cluster file."""
    cpu: float
    """Cores of all devices."""
    topology: str
    ready: bool = False
    owns_folder: bool = True
    """Whether the folder goes with the testbed."""
    devices: tuple[DeviceRecord, ...] = ()


class Records:
    """The notes of all testbeds of this machine, one file for each."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else adds or removes testbeds meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def write(self, record: RunRecord) -> None:
        """Note a testbed, or what has changed about it."""
        path = self._path(record.run)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(dataclasses.asdict(record), indent=1))
        os.replace(new, path)

    def forget(self, run: str) -> None:
        """The testbed is gone."""
        self._path(run).unlink(missing_ok=True)

    def knows(self, run: str) -> bool:
        """Whether the testbed is not gone."""
        return self._path(run).exists()

    def all(self) -> list[RunRecord]:
        """Every testbed, by id."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with suppress(FileNotFoundError):  # removed meanwhile
                found.append(_parse(json.loads(path.read_text())))
        return found

    def _path(self, run: str) -> Path:
        return self.folder / f"{run}.json"


def _parse(fields: dict[str, Any]) -> RunRecord:
    devices = tuple(
        DeviceRecord(**{**device, "worker": ProcessIdentity(**device["worker"])}) for device in fields["devices"]
    )
    return RunRecord(**{**fields, "owner": ProcessIdentity(**fields["owner"]), "devices": devices})


def _started(pid: int) -> int:
    """0 when there is no such process, or when it has ended and only its parent does not know yet."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(fields[18])
