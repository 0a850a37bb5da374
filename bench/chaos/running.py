"""One run: a testbed, clients, faults, and a look at what is left."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.afterwards import RECOVERY_SECONDS
from bench.chaos.asking import GRACE_SECONDS
from bench.chaos.clocks import Clocks
from bench.chaos.injecting import Injector
from bench.chaos.records import Afterwards, Event, Request, read_requests
from bench.chaos.schedule import Kind, draw_schedule
from bench.chaos.task import MODELS_YAML, Task, write_models
from bench.chaos.verdict import Verdict, judge
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import MASTER, Testbed, namespaces, uniform
from flexpie.testbed.naming import Names
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.records import Records
from flexpie.testbed.routing import MASTER_ADDRESS, MASTER_PORT

READY_SECONDS = 240.0
END_SECONDS = 60.0
"""That the clients may take to end, and the last look."""
LATE_SECONDS = 1.0
"""That a request may seem to last longer, because its client had no processor."""

_ASKING = re.compile("^asking$", re.MULTILINE)
_DEFECT = re.compile("^.*(?:defect while|Traceback|never retrieved|never awaited|Segmentation fault).*$", re.MULTILINE)
_STOP = "stop"
"""File that tells the clients to end."""


@dataclass(frozen=True)
class Settings:
    """What a run is to be."""

    seed: int = 1
    seconds: float = 600.0
    devices: int = 4
    clients: int = 8
    processes: int = 2
    """That the clients are spread over: those of one process share a connection."""
    cpu: float = 0.2
    bandwidth_bits_per_second: float = 1e9
    deadline_seconds: float = 10.0
    pause_seconds: float = 0.05
    kinds: tuple[Kind, ...] = tuple(Kind)


@dataclass(frozen=True)
class Run:
    """What came of it."""

    requests: tuple[Request, ...]
    events: tuple[Event, ...]
    afterwards: Afterwards | None
    verdict: Verdict
    hosts: tuple[str, ...]
    run_id: str
    """Of the testbed."""


def run(settings: Settings, folder: Path, say: Callable[[str], None], records: Records | None = None) -> Run:
    """Do all of it, in a folder that keeps the logs."""
    clocks = Clocks(folder / "clocks")
    if not clocks.usable and Kind.CLOCK in settings.kinds:
        say("no C compiler (cc): clocks do not jump")
        settings = dataclasses.replace(settings, kinds=tuple(kind for kind in settings.kinds if kind is not Kind.CLOCK))
    description = uniform(settings.devices, settings.cpu, settings.bandwidth_bits_per_second)
    with clocks.in_use(), Testbed(description, folder=folder, overload=True, records=records) as bed:
        write_models(folder)
        bed.write_cluster_file(MODELS_YAML)
        injector = Injector(bed, clocks, bed.run_master)
        clients = start_clients(bed, settings)
        wait_for_clients(clients, READY_SECONDS)
        started = time.monotonic()
        names = [device.name for device in bed.devices]
        schedule = draw_schedule(settings.seed, settings.seconds, names, settings.kinds)
        say(f"{len(schedule)} faults in {settings.seconds:g} s")
        events = tuple(injector.run(schedule, started))
        time.sleep(max(0.0, started + settings.seconds - time.monotonic()))
        requests = end_clients(clients, settings, folder, started)
        afterwards = _look_afterwards(bed, settings)
        crashes = [*injector.crashes(), *_defects(folder)]
        hosts, run_id = tuple(host.name for host in bed.hosts), bed.run_id
    crashes += [f"{name} is left behind." for name in namespaces.existing() if Names(run_id).owns(name)]
    latest = settings.deadline_seconds + GRACE_SECONDS + LATE_SECONDS
    return Run(requests, events, afterwards, judge(requests, events, afterwards, crashes, latest), hosts, run_id)


def start_clients(bed: Testbed, settings: Settings) -> list[HostProcess]:
    """The processes that ask, on the master's host."""
    processes = []
    for part in range(settings.processes):
        name = f"clients-{part}"
        task = _task(bed, settings, name, tuple(range(part, settings.clients, settings.processes)))
        task.write(bed.folder / f"{name}.json")
        command = [sys.executable, "-m", "bench.chaos.asking", str(bed.folder / f"{name}.json")]
        processes.append(bed.start(MASTER, command, name))
    return processes


def wait_for_clients(clients: Sequence[HostProcess], timeout_seconds: float) -> None:
    """Wait until all of them ask."""
    for process in clients:
        process.wait_for(_ASKING, timeout_seconds)


def end_clients(
    clients: Sequence[HostProcess], settings: Settings, folder: Path, started: float
) -> tuple[Request, ...]:
    """Every request, with times since the beginning of the run."""
    (folder / _STOP).touch()
    requests: list[Request] = []
    for process in clients:
        if process.wait(settings.deadline_seconds + END_SECONDS) != 0:
            raise FlexPieError(ErrorCode.INTERNAL, f"{process.name} failed: {process.log[-2000:]}")
        requests += read_requests(folder / f"{process.name}.jsonl")
    moved = (
        dataclasses.replace(request, started=request.started - started, ended=request.ended - started)
        for request in requests
    )
    return tuple(sorted(moved, key=lambda request: request.started))


def _look_afterwards(bed: Testbed, settings: Settings) -> Afterwards | None:
    task = _task(bed, settings, "afterwards", tuple(range(settings.clients)))
    task.write(bed.folder / "afterwards.json")
    command = [sys.executable, "-m", "bench.chaos.afterwards", str(bed.folder / "afterwards.json")]
    process = bed.start(MASTER, command, "afterwards")
    if process.wait(RECOVERY_SECONDS + END_SECONDS) != 0:
        return None
    return Afterwards(**json.loads(Path(task.output).read_text()))


def _task(bed: Testbed, settings: Settings, name: str, clients: tuple[int, ...]) -> Task:
    workers = {device.name: device.address for device in bed.devices}
    return Task(
        f"{MASTER_ADDRESS}:{MASTER_PORT}", workers, str(bed.folder), clients, settings.deadline_seconds,
        settings.pause_seconds, str(bed.folder / _STOP), str(bed.folder / f"{name}.jsonl"),
    )  # fmt: skip


def _defects(folder: Path) -> list[str]:
    """Lines of the daemons' logs that only a defect writes."""
    logs = (folder / "master.log", *sorted(folder.glob("worker-*.log")))
    found = [(log.name, _DEFECT.findall(log.read_text(errors="replace"))) for log in logs]
    return [f"{name} logged {len(lines)} defects, the first: {lines[0][:300]}" for name, lines in found if lines]
