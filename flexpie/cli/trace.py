"""`flexpie trace`: collect training traces at length."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flexpie.cli.console import counted, reporting

if TYPE_CHECKING:
    from rich.progress import Progress

    from flexpie.core.cluster import Cluster
    from flexpie.traces.patterns import Pattern

ROWS_PER_PART = 50
"""Of exchanges: what a killed collection loses at most, some minutes of work."""


@click.command()
@click.option("--cluster", "cluster_path", required=True, type=click.Path(path_type=Path), help="Cluster file.")
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder of traces; what is in it already is not measured again.",
)  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after this time.")
@click.option("--samples", type=click.IntRange(1), help="Stop after so many new samples.  [default: 100]")
@click.option("--place", help="Name of this cluster in the samples.  [default: its topology and devices]")
@reporting
def trace(cluster_path: Path, output: Path, minutes: float | None, samples: int | None, place: str | None) -> None:
    """Collect samples of exchanges between the workers of a calibrated cluster.

    Exchanges are drawn at random, in sizes from 1 kB to 4 MB, among two devices and more. Ctrl-C keeps what was
    collected; the same command goes on from there.
    """
    from flexpie.cli.progress import progress_bar
    from flexpie.master.cluster_file import read_cluster_file

    cluster = read_cluster_file(cluster_path).cluster
    seconds = float("inf") if minutes is None else minutes * 60
    wanted = samples or (100 if minutes is None else None)
    name = place or place_of(cluster)
    with progress_bar() as bar:
        collected = asyncio.run(_collect(cluster, output, name, seconds, wanted, bar))
    click.echo(f"{counted(collected, 'new sample')} in {output}")


def place_of(cluster: Cluster) -> str:
    """Topology and devices of a cluster."""
    return f"{cluster.topology.value}: " + ", ".join(f"{device.name}@{device.address}" for device in cluster.devices)


async def _collect(
    cluster: Cluster, output: Path, place: str, seconds: float, wanted: int | None, bar: Progress
) -> int:
    from flexpie.traces.exchanges import collect_exchanges
    from flexpie.traces.patterns import draw_patterns
    from flexpie.traces.samples import ExchangeSample
    from flexpie.traces.store import TraceWriter, finished
    from flexpie.traces.workers import Workers

    known = finished(output, ExchangeSample)
    patterns = _until(time.monotonic() + seconds, draw_patterns(len(cluster.devices), random.Random(place)))
    task = bar.add_task("exchanges", total=wanted)
    collected = 0
    async with Workers(cluster) as workers:
        with TraceWriter(output, ExchangeSample, ROWS_PER_PART) as writer:
            async for found in collect_exchanges(workers, place, patterns, known):
                writer.add(found)
                collected += len(found)
                bar.update(task, completed=collected)
                if wanted is not None and collected >= wanted:
                    break
    return collected


def _until(deadline: float, patterns: Iterator[Pattern]) -> Iterator[Pattern]:
    """The patterns until it is late."""
    for pattern in patterns:
        if time.monotonic() > deadline:
            return
        yield pattern
