"""How soon a master that was killed answers again, and what it has to push for that.

python -m bench.restart --kills 5            as root, on a testbed of 4 devices

MobileNet v1 is deployed. Again and again the master is killed (kill -9) and started again, and a client asks all the
while. Counted are the seconds from the master's start to its first answer, and the bytes of weights that it pushed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import click

import flexpie_models
from bench.first_answer import first_answer, start_client
from flexpie.testbed import Testbed, uniform

MODEL = "mobilenet_v1"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--cpu", type=float, default=0.2)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(uniform(arguments.devices, arguments.cpu, 1e9), folder=Path(folder), overload=True) as bed,
    ):
        (bed.folder / f"{MODEL}.onnx").write_bytes(flexpie_models.build(MODEL).SerializeToString())
        bed.write_cluster_file(f"models: [{{path: {MODEL}.onnx}}]\n")
        master = bed.run_master("--startup-grace", "30")
        first_answer(start_client(bed, MODEL))
        seconds = []
        for number in range(arguments.kills):
            master.kill()
            client = start_client(bed, MODEL)
            started = time.monotonic()
            master = bed.run_master("--startup-grace", "30")
            answer = first_answer(client)
            seconds.append(answer.at - started)
            pushed = f"{answer.pushed_bytes:,} bytes pushed"
            click.echo(f"{number + 1}: first answer {seconds[-1]:.2f} s after the start, {pushed}")
    worst = max(seconds)
    click.echo(f"first answer over {len(seconds)} kills: p50 {statistics.median(seconds):.2f} s, worst {worst:.2f} s")


if __name__ == "__main__":
    main()
