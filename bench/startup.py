"""How soon a cluster answers after its start, what has to be pushed for that, and what workers need in memory.

python -m bench.startup                      as root, on a testbed of 4 devices that are not throttled

A master is started for a model that its workers have never seen, and a client asks all the while; then everything
ends and is started again. Counted is the time from the master's start to the first answer. The first start may take
what its bytes need on the master's port, and 3 s; the second one 2 s. Each worker's resident memory is compared with
its share of weights and activations.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import psutil

import flexpie_models
from bench.first_answer import FirstAnswer, first_answer, start_client
from flexpie.testbed import Testbed, uniform
from flexpie.testbed.processes import HostProcess

PLANNING_SECONDS, AGAIN_SECONDS = 3.0, 2.0
"""The bars: of a first start beside the bytes, and of a second one."""
OWN_BYTES = 120e6
"""What a worker may take besides its share of the models."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--bandwidth", type=float, default=1e9, help="bit/s of every port")
    parser.add_argument("--starts", type=int, default=3, help="second starts")
    arguments = parser.parse_args()
    description = uniform(arguments.devices, 1.0, arguments.bandwidth)
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(description, folder=Path(folder), overload=True) as bed,
    ):
        for device in bed.devices:
            bed.limit_cpu(device.name, None)
        model = arguments.model
        (bed.folder / f"{model}.onnx").write_bytes(flexpie_models.build(model).SerializeToString())
        bed.write_cluster_file(f"models: [{{path: {model}.onnx}}]\n")
        client, started = start_client(bed, model), time.monotonic()
        master = _start_master(bed)
        answer = first_answer(client)
        most = answer.pushed_bytes / (arguments.bandwidth / 8) + PLANNING_SECONDS
        click.echo(
            f"first start: {answer.at - started:.2f} s, {answer.pushed_bytes:,} bytes pushed; at most {most:.2f} s"
        )
        _print_memory(bed, answer)
        for number in range(arguments.starts):
            master.kill()
            client = start_client(bed, model)
            started = _start_again(bed)
            listened = time.monotonic()
            master = _start_master(bed)
            again = first_answer(client)
            click.echo(
                f"second start, {number + 1}: {again.at - listened:.2f} s, and {listened - started:.2f} s before that "
                f"until all workers listened; {again.pushed_bytes:,} bytes pushed; at most {AGAIN_SECONDS:.2f} s"
            )


def _start_master(bed: Testbed) -> HostProcess:
    return bed.run_master("--startup-grace", "30", "--no-standby")


def _start_again(bed: Testbed) -> float:
    """Start all workers again; returns when they were asked to."""
    for device in bed.devices:
        device.worker.kill()
    started = time.monotonic()
    with ThreadPoolExecutor(len(bed.devices)) as threads:
        list(threads.map(lambda device: bed.restart_worker(device.name), bed.devices))
    return started


def _print_memory(bed: Testbed, answer: FirstAnswer) -> None:
    for device in bed.devices:
        memory, share = psutil.Process(device.pid).memory_info().rss, answer.resident_bytes.get(device.name, 0)
        verdict = "within" if memory <= share + OWN_BYTES else "ABOVE"
        click.echo(
            f"{device.name}: {memory / 1e6:.0f} MB resident, {share / 1e6:.0f} MB of them its share of the model; "
            f"{verdict} {OWN_BYTES / 1e6:.0f} MB more than that"
        )


if __name__ == "__main__":
    main()
