"""`flexpie trace`: collect training traces at length."""

from __future__ import annotations

import asyncio
import platform
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flexpie.cli.console import counted, reporting, shape_option
from flexpie.cli.tls_options import load_tls, tls_options
from flexpie.security.roles import Role

if TYPE_CHECKING:
    from flexpie.core.cluster import Cluster
    from flexpie.security.credentials import Credentials, TlsFiles

T = TypeVar("T")
Advance = Callable[[int], None]
"""Told how many samples were added."""

DEFAULT_SAMPLES = 100
ROWS_PER_PART = 50
"""Of exchanges: what a killed collection loses at most, some minutes of work."""


@click.command()
@click.option(
    "--kind", type=click.Choice(["compute", "exchange", "all"]), default="exchange", show_default=True,
    help="Layers on this machine, exchanges between workers, or one after the other.",
)  # fmt: skip
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder of traces; what is in it already is not measured again.",
)  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop each kind after this time.")
@click.option("--samples", type=click.IntRange(1), help="Stop each kind after so many new samples.  [default: 100]")
@click.option("--cluster", "cluster_path", type=click.Path(path_type=Path), help="Exchanges: cluster file.")
@tls_options
@click.option("--place", help="Exchanges: name of this cluster in the samples.  [default: its topology and devices]")
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path),
    help="Layers: an ONNX file whose layers are cut and timed. May be given several times.",
)  # fmt: skip
@shape_option
@click.option(
    "--device", default=platform.node, show_default="this machine's name",
    help="Layers: name of the kind of machine in the samples.",
)  # fmt: skip
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Layers: that run one operator.")
@click.option(
    "--ray", metavar="ADDRESS", help="Layers: do it on all machines of the Ray cluster at this address, such as auto."
)  # fmt: skip
@reporting
def trace(
    kind: str,
    output: Path,
    minutes: float | None,
    samples: int | None,
    cluster_path: Path | None,
    tls: TlsFiles | None,
    place: str | None,
    models: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    device: str,
    threads: int,
    ray: str | None,
) -> None:
    """Collect samples to train estimators from.

    Exchanges are drawn at random, in sizes from 1 kB to 4 MB, among two workers and more of a calibrated cluster.
    Layers are those of plans drawn at random, on this machine, which should do nothing else. Ctrl-C keeps what was
    collected; the same command goes on from there.
    """
    from flexpie.cli.progress import progress_bar

    if kind != "compute" and cluster_path is None:
        raise click.UsageError("exchanges need --cluster")
    if kind != "exchange" and not models:
        raise click.UsageError("layers need --model")
    limit = samples or (DEFAULT_SAMPLES if minutes is None else None)
    seconds = float("inf") if minutes is None else minutes * 60
    collected = 0
    with progress_bar() as bar:

        def advance_of(name: str) -> Advance:
            task = bar.add_task(name, total=limit)
            return lambda count: bar.update(task, advance=count)

        if kind != "compute" and cluster_path is not None:
            collected += _exchanges(cluster_path, tls, place, output, seconds, limit, advance_of("exchanges"))
        if kind != "exchange":
            given = [(path.absolute(), dict(shapes)) for path in models]
            collected += _layers(given, device, threads, ray, output, seconds, limit, advance_of("layers"))
    click.echo(f"{counted(collected, 'new sample')} in {output}")


def _exchanges(
    path: Path,
    tls: TlsFiles | None,
    place: str | None,
    output: Path,
    seconds: float,
    limit: int | None,
    advance: Advance,
) -> int:
    """Collect exchange samples; returns how many."""
    from flexpie.master.cluster_file import read_cluster_file

    cluster = read_cluster_file(path).cluster
    credentials = load_tls(tls, [Role.MASTER])
    return asyncio.run(
        _between_workers(cluster, credentials, place or place_of(cluster), output, seconds, limit, advance)
    )


def place_of(cluster: Cluster) -> str:
    """Topology and devices of a cluster."""
    return f"{cluster.topology.value}: " + ", ".join(f"{device.name}@{device.address}" for device in cluster.devices)


async def _between_workers(
    cluster: Cluster,
    credentials: Credentials | None,
    place: str,
    output: Path,
    seconds: float,
    limit: int | None,
    advance: Advance,
) -> int:
    from flexpie.traces.exchanges import collect_exchanges
    from flexpie.traces.patterns import draw_patterns
    from flexpie.traces.samples import ExchangeSample
    from flexpie.traces.store import TraceWriter, finished
    from flexpie.traces.workers import Workers

    known = finished(output, ExchangeSample)
    patterns = _in_time(draw_patterns(len(cluster.devices), random.Random(place)), seconds)
    collected = 0
    async with Workers(cluster, credentials) as workers:
        with TraceWriter(output, ExchangeSample, ROWS_PER_PART) as writer:
            async for found in collect_exchanges(workers, place, patterns, known):
                writer.add(found)
                collected += len(found)
                advance(len(found))
                if limit is not None and collected >= limit:
                    break
    return collected


def _layers(
    models: Sequence[tuple[Path, dict[str, Any]]],
    device: str,
    threads: int,
    ray: str | None,
    output: Path,
    seconds: float,
    limit: int | None,
    advance: Advance,
) -> int:
    """Collect compute samples; returns how many."""
    from flexpie.traces.compute_tasks import collect, compute_tasks, launch_of
    from flexpie.traces.running import LocalRunner, RayRunner, run_all
    from flexpie.traces.samples import ComputeSample
    from flexpie.traces.store import TraceWriter, finished

    known = finished(output, ComputeSample)
    tasks = (task for task in compute_tasks(models, device, threads) if (device, launch_of(task)) not in known)
    runner = LocalRunner() if ray is None else RayRunner(ray, cores_per_task=threads)
    collected = 0
    with TraceWriter(output, ComputeSample) as writer:
        for found in run_all(collect, _in_time(tasks, seconds), runner):
            writer.add(found)
            collected += len(found)
            advance(len(found))
            if limit is not None and collected >= limit:
                break
    return collected


def _in_time(items: Iterable[T], seconds: float) -> Iterator[T]:
    """The items that are asked for before the time is over."""
    deadline = time.monotonic() + seconds
    for item in items:
        if time.monotonic() > deadline:
            return
        yield item
