"""What clients notice when a device is killed, and when it is planned in again.

python -m bench.interruption --kills 50            as root, on a testbed of 4 devices

Clients ask one request after the other. Again and again one device in turn is killed (kill -9), started again, and
given the time to be planned in. Interruption: the longest request of any client that was under way within three seconds
after the kill. Swap: requests between the restart and the time when the full plan, and all standbys, are there again.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.chaos.records import ANSWERED, Request, read_requests
from bench.chaos.task import MODELS_YAML, Task, write_models
from flexpie.testbed import MASTER, Testbed, uniform
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.routing import MASTER_ADDRESS, MASTER_PORT

READY_SECONDS = 240.0
DEADLINE_SECONDS = 10.0
CALM_SECONDS = 2.0
"""Before each kill, to see what requests take when nothing happens."""
AFTERMATH_SECONDS = 3.0
QUIET_SECONDS = 3.0
"""Without news of deployments: all that is to be prepared is there."""
_NEWS = re.compile(r"(?:deployment|standby) (started|ready|failed|abandoned)")
_ASKING = re.compile("^asking$", re.MULTILINE)


@dataclass(frozen=True)
class Cycle:
    """One kill; times of the monotonic clock."""

    device: str
    calm: float
    killed: float
    restarted: float
    whole: float
    """When everything was as before."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--cpu", type=float, default=0.2)
    parser.add_argument("--clients", type=int, default=2)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(uniform(arguments.devices, arguments.cpu, 1e9), folder=Path(folder), overload=True) as bed,
    ):
        write_models(bed.folder)
        bed.write_cluster_file(MODELS_YAML)
        master = bed.run_master("--startup-grace", "30")
        output, stop = bed.folder / "requests.jsonl", bed.folder / "stop"
        clients = _start_clients(bed, arguments.clients, output, stop)
        cycles: list[Cycle] = []
        with contextlib.suppress(KeyboardInterrupt):  # what there is so far is reported
            for number in range(arguments.kills):
                cycles.append(_cycle(bed, master, number))
        stop.touch()
        if clients.wait(DEADLINE_SECONDS + 30) != 0:
            raise SystemExit(clients.log)
        report(cycles, list(read_requests(output)))


def _start_clients(bed: Testbed, count: int, output: Path, stop: Path) -> HostProcess:
    task = Task(f"{MASTER_ADDRESS}:{MASTER_PORT}", {}, str(bed.folder), tuple(range(count)), DEADLINE_SECONDS, 0.01,
                str(stop), str(output))  # fmt: skip
    path = bed.folder / "task.json"
    task.write(path)
    process = bed.start(MASTER, [sys.executable, "-m", "bench.chaos.asking", str(path)], "clients")
    process.wait_for(_ASKING, READY_SECONDS)
    return process


def _cycle(bed: Testbed, master: HostProcess, number: int) -> Cycle:
    _wait_until_quiet(master)
    calm = time.monotonic()
    time.sleep(CALM_SECONDS)
    device = bed.devices[number % len(bed.devices)].name
    killed = time.monotonic()
    bed.faults.kill(device)
    time.sleep(AFTERMATH_SECONDS)
    restarted = time.monotonic()
    bed.restart_worker(device)
    _wait_until_quiet(master)
    cycle = Cycle(device, calm, killed, restarted, time.monotonic())
    click.echo(f"{number + 1}: {device} killed, whole again {cycle.whole - cycle.restarted:.1f} s after its start")
    return cycle


def _wait_until_quiet(master: HostProcess) -> None:
    """Until all that was started is ready, and nothing new is started for a while."""
    deadline = time.monotonic() + READY_SECONDS
    seen, since = -1, time.monotonic()
    while time.monotonic() < min(deadline, since + QUIET_SECONDS):
        news = _NEWS.findall(master.log)
        under_way = 2 * news.count("started") > len(news)
        if len(news) != seen or under_way:
            seen, since = len(news), time.monotonic()
        time.sleep(0.1)


def report(cycles: Sequence[Cycle], requests: Sequence[Request]) -> None:
    """Print what was found."""
    interruptions = [
        max(request.seconds for request in _within(requests, cycle.killed, cycle.killed + AFTERMATH_SECONDS))
        for cycle in cycles
    ]
    calm = [request for cycle in cycles for request in _within(requests, cycle.calm, cycle.killed)]
    before = [
        request.seconds
        for request in calm
        if all(not request.ended > cycle.killed > request.started for cycle in cycles)
    ]
    swap = [request.seconds for cycle in cycles for request in _within(requests, cycle.restarted, cycle.whole)]
    failed = [request for request in requests if request.outcome != ANSWERED]
    click.echo(f"requests {len(requests)}, failed {len(failed)}")
    for request in failed[:10]:
        click.echo(f"  {request.outcome}: {request.message}")
    click.echo(f"interruption over {len(cycles)} kills: p50 {statistics.median(interruptions):.2f} s, "
          f"worst {max(interruptions):.2f} s")  # fmt: skip
    for name, seconds in (("nothing happens", before), ("during the swap", swap)):
        p50, p99 = _quantile(seconds, 0.5), _quantile(seconds, 0.99)
        click.echo(f"{name}: {len(seconds)} requests, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")


def _within(requests: Sequence[Request], start: float, end: float) -> list[Request]:
    """Those that were under way at any time between."""
    return [request for request in requests if request.started < end and request.ended > start]


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


if __name__ == "__main__":
    main()
