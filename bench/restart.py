"""How soon a master that was killed answers again, and what it has to push for that.

python -m bench.restart --kills 5            as root, on a testbed of 4 devices

MobileNet v1 is deployed. Again and again the master is killed (kill -9) and started again, and a client asks all the
while. Counted are the seconds from the master's start to its first answer, and the bytes of weights that it pushed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

import flexpie_models
from flexpie import Client
from flexpie.core.errors import FlexPieError
from flexpie.testbed import MASTER, Testbed, uniform
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.routing import MASTER_ADDRESS, MASTER_PORT

MODEL = "mobilenet_v1"
ANSWER_SECONDS = 240.0
"""The first time the model is planned and pushed."""
_ASKING = re.compile("^asking$", re.MULTILINE)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--cpu", type=float, default=0.2)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        ask()
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(uniform(arguments.devices, arguments.cpu, 1e9), folder=Path(folder), overload=True) as bed,
    ):
        (bed.folder / f"{MODEL}.onnx").write_bytes(flexpie_models.build(MODEL).SerializeToString())
        bed.write_cluster_file(f"models: [{{path: {MODEL}.onnx}}]\n")
        master = bed.run_master("--startup-grace", "30")
        _first_answer(_start_client(bed))
        seconds = []
        for number in range(arguments.kills):
            master.kill()
            client = _start_client(bed)
            started = time.monotonic()
            master = bed.run_master("--startup-grace", "30")
            answered, pushed = _first_answer(client)
            seconds.append(answered - started)
            click.echo(f"{number + 1}: first answer {seconds[-1]:.2f} s after the start, {pushed:,} bytes pushed")
    worst = max(seconds)
    click.echo(f"first answer over {len(seconds)} kills: p50 {statistics.median(seconds):.2f} s, worst {worst:.2f} s")


def _start_client(bed: Testbed) -> HostProcess:
    client = bed.start(MASTER, [sys.executable, "-m", "bench.restart", "--ask"], "client")
    client.wait_for(_ASKING, ANSWER_SECONDS)
    return client


def _first_answer(client: HostProcess) -> tuple[float, int]:
    """When the model answered, by the monotonic clock, and the bytes that were pushed for it."""
    if client.wait(ANSWER_SECONDS + 30) != 0:
        raise SystemExit(client.log)
    answered, pushed = client.log.split()[-2:]
    return float(answered), int(pushed)


def ask() -> None:
    """Ask until there is an answer; print when that was, and what was pushed."""
    with Client(f"{MASTER_ADDRESS}:{MASTER_PORT}", timeout=ANSWER_SECONDS) as client:
        click.echo("asking")
        deadline = time.monotonic() + ANSWER_SECONDS
        while not _is_ready(client) and time.monotonic() < deadline:
            time.sleep(0.02)
        client.infer(MODEL, {"input": np.zeros((1, 3, 224, 224), np.float32)})
        answered = time.monotonic()
        click.echo(f"{answered} {client.model(MODEL).pushed_bytes}")


def _is_ready(client: Client) -> bool:
    try:
        return client.ready(MODEL)
    except FlexPieError:  # it does not listen yet
        return False


if __name__ == "__main__":
    main()
