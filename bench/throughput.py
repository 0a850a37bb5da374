"""How many requests per second a cluster answers with several in flight, in batches or not, against one device alone.

python -m bench.throughput --model resnet18         as root, on a testbed of 4 devices

Requests are single; the master gathers those that wait. Launches of both are interleaved, on the same device quotas:
onnxruntime alone, one request after the other with its input in place, and a cluster that is asked by so many clients
at once. Every answer is compared with the unsplit one.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

import flexpie_models
from flexpie.benchmark.measuring import ASK_SECONDS, LOAD_SECONDS, calibrate, start_alone, start_asking
from flexpie.benchmark.model_files import ModelFiles, ModelLibrary
from flexpie.benchmark.orders import Answer
from flexpie.core.errors import FlexPieError
from flexpie.testbed import Description, Testbed, uniform

_WARM_UP = 3
"""Times as many requests as are in flight."""


class _Launches:
    """Orders to both, in turn, on one testbed."""

    def __init__(self, bed: Testbed, files: ModelFiles, in_flight: int, max_batch: int, objective: str) -> None:
        self._bed, self._files = bed, files
        self._in_flight = in_flight
        self._options = {"objective": objective, "max_batch": max_batch}
        self._processes = ExitStack()

    def __enter__(self) -> _Launches:
        with ExitStack() as stack:
            master = self._bed.run_master("--no-standby")
            stack.callback(master.kill)
            self._asking = start_asking(stack, self._bed, master, self._files)
            self._alone = start_alone(stack, self._bed, self._bed.devices[0].name)
            self._processes = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def alone(self, requests: int) -> Answer:
        """On one device."""
        self._alone.order("load", LOAD_SECONDS, model=str(self._files.model), **self._files.arrays)
        self._alone.order("ask", ASK_SECONDS, requests=_WARM_UP)
        answer = self._alone.order("ask", ASK_SECONDS, requests=requests)
        self._alone.order("unload", LOAD_SECONDS)
        return answer

    def together(self, requests: int) -> Answer:
        """On the cluster."""
        shapes = {key: list(shape) for key, shape in self._files.shapes.items()}
        self._asking.order("load", LOAD_SECONDS, model=str(self._files.model), name="model", shapes=shapes,
                           **self._options)  # fmt: skip
        asked = {"name": "model", "in_flight": self._in_flight}
        self._asking.order("ask", ASK_SECONDS, requests=_WARM_UP * self._in_flight, **asked)
        answer = self._asking.order("ask", ASK_SECONDS, requests=requests, **asked)
        self._asking.order("unload", LOAD_SECONDS, name="model")
        return answer


def open_batch(model: Any) -> bytes:
    """An ONNX model's file for any number of images: the first axis of what comes in and goes out is open."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    content: bytes = model.SerializeToString()
    return content


def _said(name: str, answers: Sequence[Answer]) -> float:
    """Print a line; returns the median of requests per second."""
    rates = [len(answer["seconds"]) / answer["wall_seconds"] for answer in answers]
    seconds: list[float] = sorted(value for answer in answers for value in answer["seconds"])
    p50, p99 = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    click.echo(
        f"{name}: {statistics.median(rates):.2f} requests/s ({', '.join(f'{rate:.2f}' for rate in rates)}), "
        f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms = {p99 / p50:.2f} times, "
        f"{'all equal' if all(answer['equal'] for answer in answers) else 'WRONG ANSWERS'}"
    )
    return float(statistics.median(rates))


@click.command()
@click.option("--model", default="resnet18", show_default=True, type=click.Choice(flexpie_models.NAMES))
@click.option("--devices", default=4, show_default=True, type=click.IntRange(1, 8))
@click.option("--cpu", default=0.2, show_default=True, help="Share of a core of each.")
@click.option("--bandwidth", default=1e9, show_default=True, help="bit/s of every port.")
@click.option("--in-flight", default=8, show_default=True, type=click.IntRange(1))
@click.option("--max-batch", default=1, show_default=True, type=click.IntRange(1), help="1: no batches.")
@click.option("--objective", default="throughput", show_default=True, type=click.Choice(["latency", "throughput"]))
@click.option("--launches", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--requests",
    default=160,
    show_default=True,
    type=click.IntRange(5),
    help="In each launch of the cluster; a fifth of them alone.",
)
def main(
    model: str, devices: int, cpu: float, bandwidth: float, in_flight: int, max_batch: int, objective: str,
    launches: int, requests: int,
) -> None:  # fmt: skip
    """Print the requests per second of one device and of the cluster, and their ratio."""
    try:
        rounds = _measure(model, uniform(devices, cpu, bandwidth), in_flight, max_batch, objective, launches, requests)
    except FlexPieError as error:
        raise click.ClickException(str(error)) from None
    alone = _said("one device", [first for first, _ in rounds])
    together = _said(f"{devices} devices, {in_flight} in flight", [second for _, second in rounds])
    click.echo(f"{together / alone:.2f} times as many")


def _measure(
    model: str, description: Description, in_flight: int, max_batch: int, objective: str, launches: int, requests: int
) -> list[tuple[Answer, Answer]]:
    """What one device and the cluster answered in each launch."""
    with tempfile.TemporaryDirectory(prefix="flexpie-bench-") as folder:
        written = flexpie_models.build(model)
        shapes = {port.name: tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim)
                  for port in written.graph.input}  # fmt: skip
        files = ModelLibrary(Path(folder), lambda _: open_batch(written), {model: shapes}).files(model)
        with Testbed(description, folder=Path(folder), overload=True) as bed:
            calibrate(bed)
            with _Launches(bed, files, in_flight, max_batch, objective) as launch:
                return [(launch.alone(requests // 5), launch.together(requests)) for _ in range(launches)]


if __name__ == "__main__":
    main()
