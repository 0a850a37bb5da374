"""How soon a link that has become slower is noticed and planned around, and what that is worth.

python -m bench.drift --model mobilenet_v1         as root, on a testbed of 4 devices

One client asks one request after the other. The port of one device gets another bandwidth; the time counts until
another plan serves: a standby, maybe, and the best one later. Afterwards the same is asked of a master that was told of
the slow links from the beginning. Before all that the devices are calibrated. Launches of one plan differ: several of
them tell more than one.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import yaml

import flexpie_models
from flexpie.benchmark.measuring import calibrate
from flexpie.client import Client
from flexpie.core.errors import FlexPieError
from flexpie.master.calibration_file import calibration_path
from flexpie.testbed import MASTER, Testbed, uniform
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.routing import MASTER_ADDRESS, MASTER_PORT

READY_SECONDS = 240.0
BEFORE_SECONDS, AFTER_SECONDS = 25.0, 45.0
QUIET_SECONDS = 3
"""Without another standby that is built."""
LAST_SECONDS = 15.0
"""At the end of each run: what requests take then."""
_ASKING = re.compile("^asking$", re.MULTILINE)
_ADDRESS = f"{MASTER_ADDRESS}:{MASTER_PORT}"


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v1")
    parser.add_argument("--devices", type=int, default=4, choices=range(2, 9))
    parser.add_argument("--cpu", type=float, default=0.2)
    parser.add_argument("--bandwidth", type=float, default=1e9, help="bit/s of every port")
    parser.add_argument("--slow", type=float, default=0.1, help="part of it that is left to one port")
    parser.add_argument("--least-gain", default="0.05", help="of the master: what another plan must be better by")
    parser.add_argument("--launches", type=int, default=5, choices=range(1, 101), metavar="N")
    parser.add_argument("--ask", nargs=3, metavar=("MODEL", "STOP", "OUTPUT"), help="be the client")
    arguments = parser.parse_args()
    if arguments.ask:
        _ask(arguments.ask[0], Path(arguments.ask[1]), Path(arguments.ask[2]))
        return
    devices = uniform(arguments.devices, arguments.cpu, arguments.bandwidth)
    launches = []
    for _ in range(arguments.launches):
        with tempfile.TemporaryDirectory() as folder, Testbed(devices, folder=Path(folder), overload=True) as bed:
            slow = arguments.bandwidth * arguments.slow
            launches.append(_measure(bed, arguments.model, slow, arguments.least_gain))
    _sum_up(launches)


@dataclass(frozen=True)
class _Launch:
    """What was seen in one; in seconds."""

    noticed: float | None
    """Until another plan served; None where none did."""
    until_then: float
    last: float
    known: float
    """With the plan of a master that was told of the slow links."""


def _sum_up(launches: Sequence[_Launch]) -> None:
    noticed = [item.noticed for item in launches if item.noticed is not None]
    slowest = f", after {statistics.median(noticed):.1f} s, {max(noticed):.1f} s at worst" if noticed else ""
    click.echo(f"{len(launches)} launches: another plan in {len(noticed)} of them{slowest}")
    for name in ("until_then", "last", "known"):
        values = [getattr(item, name) for item in launches]
        each = ", ".join(f"{value * 1000:.0f}" for value in values)
        click.echo(f"{name.replace('_', ' ')}: {_milliseconds(values)} ({each})")
    ratios = [item.last / item.known for item in launches]
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    click.echo(f"last / known: {statistics.median(ratios):.2f} ({each})")


def _measure(bed: Testbed, model: str, slow: float, least_gain: str) -> _Launch:
    (bed.folder / f"{model}.onnx").write_bytes(flexpie_models.build(model).SerializeToString())
    models = f"models: [{{path: {model}.onnx}}]\n"
    bed.write_cluster_file(models)
    calibrate(bed)
    options = ("--startup-grace", "30", "--least-gain", least_gain, "--log-level", "debug")
    master = bed.run_master(*options, "--state-dir", str(bed.folder / "first"))
    client = _start_client(bed, model, "first")
    _wait_for_standbys(master)
    time.sleep(BEFORE_SECONDS)
    seen = len(_switches(master))
    slowed = time.monotonic()
    bed.faults.slow("d1", slow)
    switched: list[float] = []
    while time.monotonic() < slowed + AFTER_SECONDS:
        time.sleep(0.1)
        switched += [time.monotonic()] * (len(_switches(master)) - seen - len(switched))
    time.sleep(LAST_SECONDS)
    requests = _end_client(bed, client, "first")
    click.echo("\n".join(line for line in master.log.splitlines() if re.search("drift|plan|pay|ready|serves", line)))
    before = [end - start for start, end, _ in requests if slowed - LAST_SECONDS < start and end < slowed]
    after = [end - start for start, end, _ in requests if start > requests[-1][1] - LAST_SECONDS]
    failed = [error for _, _, error in requests if error]
    click.echo(f"{len(requests)} requests, {len(failed)} failed {failed[:3]}")
    click.echo(f"before {_milliseconds(before)}, with the slow link at last {_milliseconds(after)}")
    times = [at - slowed for at in switched]
    kinds = _switches(master)[seen:]
    plans = ", ".join(f"{kind} after {at:.1f} s" for kind, at in zip(kinds, times, strict=False))
    click.echo(plans or "no other plan")
    during = [end - start for start, end, _ in requests if slowed < start and end < slowed + (times or [10.0])[0]]
    click.echo(f"until then {_milliseconds(during)}")
    master.kill()
    known = _measure_known(bed, model, models, slow)
    return _Launch(min(times, default=None), statistics.median(during), statistics.median(after), known)


def _measure_known(bed: Testbed, model: str, models: str, slow: float) -> float:
    """What requests take with the plan of a master that was told of the slow links."""
    others = [device.name for device in bed.devices if device.name != "d1"]
    pairs = [pair for other in (*others, "master") for pair in (("d1", other), (other, "d1"))]
    links = "".join(f"- {{from: {start}, to: {end}, bandwidth: {slow:.0f} bit/s}}\n" for start, end in pairs)
    bed.write_cluster_file(f"links:\n{links}{models}")
    _forget_links(calibration_path(bed.cluster_file))
    master = bed.run_master("--startup-grace", "30", "--state-dir", str(bed.folder / "second"), "--least-gain", "1")
    client = _start_client(bed, model, "second")
    _wait_for_standbys(master)
    time.sleep(BEFORE_SECONDS)
    requests = _end_client(bed, client, "second")
    known = [end - start for start, end, _ in requests if start > requests[-1][1] - LAST_SECONDS]
    click.echo("\n".join(line for line in master.log.splitlines() if re.search("planned", line)))
    click.echo(f"with a plan for the slow link from the beginning {_milliseconds(known)}")
    return statistics.median(known)


def _forget_links(path: Path) -> None:
    """Of a calibration, so that those of the cluster file hold."""
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "links": []}))


def _switches(master: HostProcess) -> list[str]:
    """What began to serve, in order."""
    return re.findall("(?:deployment ready|standby serves)", master.log)


def _wait_for_standbys(master: HostProcess) -> None:
    """Until workers build nothing any more."""
    deadline, quiet = time.monotonic() + READY_SECONDS, 0
    while quiet < QUIET_SECONDS:
        started, ended = (len(re.findall(f"standby {what}", master.log)) for what in ("started", "(?:ready|failed)"))
        quiet = quiet + 1 if 0 < started == ended else 0
        if time.monotonic() > deadline:
            raise SystemExit(master.log)
        time.sleep(1)


def _start_client(bed: Testbed, model: str, name: str) -> HostProcess:
    paths = [str(bed.folder / f"{name}.{kind}") for kind in ("stop", "json")]
    client = bed.start(MASTER, [sys.executable, "-m", "bench.drift", "--ask", model, *paths], name)
    client.wait_for(_ASKING, READY_SECONDS)
    return client


def _end_client(bed: Testbed, client: HostProcess, name: str) -> list[tuple[float, float, str]]:
    (bed.folder / f"{name}.stop").touch()
    if client.wait(60) != 0:
        raise SystemExit(client.log)
    return [(start, end, error) for start, end, error in json.loads((bed.folder / f"{name}.json").read_text())]


def _ask(model: str, stop: Path, output: Path) -> None:
    """One request after the other; writes when each began and ended, and why it failed."""
    requests = []
    with Client(_ADDRESS, timeout=60) as client:
        deadline = time.monotonic() + READY_SECONDS
        while not client.ready(model):
            if time.monotonic() > deadline:
                raise SystemExit(f"{model} is not ready after {READY_SECONDS:.0f} s.")
            time.sleep(0.1)
        port = client.model(model).inputs[0]
        image = np.random.default_rng(1).random(port.shape, dtype=np.float32)
        click.echo("asking")
        while not stop.exists():
            start, error = time.monotonic(), ""
            try:
                client.infer(model, {port.name: image})
            except FlexPieError as caught:
                error = str(caught)
            requests.append((start, time.monotonic(), error))
    output.write_text(json.dumps(requests))


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ms" if seconds else "nothing"


if __name__ == "__main__":
    main()
