"""How long it takes to import, plan and compile the example models, on one core.

python -m bench.plan_times [--devices N] [--speed S] [MODEL...]
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import flexpie_models
from flexpie import pipeline
from flexpie.compiler import ImportedModel
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.work import work_shares

GIGABIT = Link(bandwidth_bytes_per_second=125e6, latency_seconds=2e-4)
DEFAULT = ("mobilenet_v1", "resnet18", "resnet101", "bert_base", "swin_style", "vit_b16")


@click.command()
@click.argument("models", nargs=-1, type=click.Choice(flexpie_models.NAMES), metavar="[MODEL]...")
@click.option("--devices", default=4, show_default=True, type=click.IntRange(1, 8))
@click.option("--speed", default=0.2, show_default=True, help="Of each device, relative to a desktop core.")
def main(models: tuple[str, ...], devices: int, speed: float) -> None:
    """Import, plan and compile MODELs, and print processor seconds of this process, which other work on the machine
    does not lengthen much.

    Planning is all of the search, cost evaluation included. The gap says how
    much faster a plan could be at most, as far as the search has proven.
    """
    members = tuple(Device(f"device-{at}", f"device-{at}:50051", speed) for at in range(devices))
    cluster = Cluster(members, GIGABIT)
    table = Table("model", "import", "plan", "compile", "sum", "layers", "segments", "gap", "split", "speed-up")
    for name in models or DEFAULT:
        table.add_row(name, *_row(name, cluster))
    Console(width=100).print(table)


def imported(name: str) -> tuple[ImportedModel, float]:
    """An example model, and the processor seconds that its import took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(flexpie_models.build(name).SerializeToString())
        start = time.process_time()
        model = pipeline.import_file(path, {"image": (1, 1, 8, 8)} if name == "digits" else None)
        return model, time.process_time() - start


def _row(name: str, cluster: Cluster) -> list[str]:
    model, seconds_of_import = imported(name)
    marks = [time.process_time()]
    result = pipeline.plan_model(model, cluster)
    marks.append(time.process_time())
    pipeline.compile_plan(model, result.plan)
    marks.append(time.process_time())
    seconds = [seconds_of_import, *(after - before for before, after in itertools.pairwise(marks))]
    return [
        *(f"{value:.2f}" for value in (*seconds, sum(seconds))),
        str(len(model.graph.layers)),
        str(len(result.plan.segments)),
        "exact" if result.exact else "unknown" if result.gap is None else f"{result.gap:.1%}",
        f"{work_shares(model.graph, result.plan).split:.1%}",
        f"{result.single_device.predicted_seconds / result.plan.predicted_seconds:.2f}",
    ]


if __name__ == "__main__":
    main()
