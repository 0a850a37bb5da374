"""How soon a link that has become slower is noticed and planned around, and what that is worth.

python -m bench.drift --model mobilenet_v1         as root, on a testbed of 4 devices

One client asks one request after the other. The port of one device gets another bandwidth; the time counts until the
new plan serves. Afterwards the same is asked of a master that was told of the slow links from the beginning. Before all
that the devices are calibrated.
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
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--cpu", type=float, default=0.2)
    parser.add_argument("--bandwidth", type=float, default=1e9, help="bit/s of every port")
    parser.add_argument("--slow", type=float, default=0.1, help="part of it that is left to one port")
    parser.add_argument("--least-gain", default="0.05", help="of the master: what another plan must be better by")
    parser.add_argument("--ask", nargs=3, metavar=("MODEL", "STOP", "OUTPUT"), help="be the client")
    arguments = parser.parse_args()
    if arguments.ask:
        _ask(arguments.ask[0], Path(arguments.ask[1]), Path(arguments.ask[2]))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(
            uniform(arguments.devices, arguments.cpu, arguments.bandwidth), folder=Path(folder), overload=True
        ) as bed,
    ):
        _measure(bed, arguments.model, arguments.bandwidth * arguments.slow, arguments.least_gain)


def _measure(bed: Testbed, model: str, slow: float, least_gain: str) -> None:
    (bed.folder / f"{model}.onnx").write_bytes(flexpie_models.build(model).SerializeToString())
    models = f"models: [{{path: {model}.onnx}}]\n"
    bed.write_cluster_file(models)
    calibrate(bed)
    options = ("--startup-grace", "30", "--least-gain", least_gain, "--log-level", "debug")
    master = bed.run_master(*options, "--state-dir", str(bed.folder / "first"))
    client = _start_client(bed, model, "first")
    _wait_for_standbys(master)
    time.sleep(BEFORE_SECONDS)
    switches = _switches(master)
    slowed = time.monotonic()
    bed.faults.slow("d1", slow)
    while _switches(master) == switches and time.monotonic() < slowed + AFTER_SECONDS:
        time.sleep(0.1)
    switched = time.monotonic() if _switches(master) > switches else None
    time.sleep(max(LAST_SECONDS, slowed + AFTER_SECONDS - time.monotonic()))
    requests = _end_client(bed, client, "first")
    click.echo("\n".join(line for line in master.log.splitlines() if re.search("drift|plan|pay|ready", line)))
    before = [end - start for start, end, _ in requests if slowed - LAST_SECONDS < start and end < slowed]
    after = [end - start for start, end, _ in requests if start > requests[-1][1] - LAST_SECONDS]
    failed = [error for _, _, error in requests if error]
    click.echo(f"{len(requests)} requests, {len(failed)} failed {failed[:3]}")
    click.echo(f"before {_milliseconds(before)}, with the slow link at last {_milliseconds(after)}")
    click.echo("no other plan" if switched is None else f"new plan after {switched - slowed:.1f} s")
    during = [end - start for start, end, _ in requests if slowed < start and end < (switched or slowed + 10)]
    click.echo(f"until then {_milliseconds(during)}")
    master.kill()
    _measure_known(bed, model, models, slow)


def _measure_known(bed: Testbed, model: str, models: str, slow: float) -> None:
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


def _forget_links(path: Path) -> None:
    """Of a calibration, so that those of the cluster file hold."""
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "links": []}))


def _switches(master: HostProcess) -> int:
    return len(re.findall("deployment ready", master.log))


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
        while not client.ready(model):
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
