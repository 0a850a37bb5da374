"""`flexpie calibrate`: measure the devices and links of a cluster."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flexpie.cli.console import counted, reporting
from flexpie.cli.tls_options import load_tls, tls_options
from flexpie.security.roles import Role

if TYPE_CHECKING:
    from rich.progress import Progress

    from flexpie.core.cluster import Cluster
    from flexpie.master.calibration_file import Calibration
    from flexpie.security.credentials import Credentials, TlsFiles


@click.command()
@click.option("--cluster", "cluster_path", required=True, type=click.Path(path_type=Path), help="Cluster file.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write what was measured, instead of beside the cluster file, where it is found again.",
)  # fmt: skip
@tls_options
@reporting
def calibrate(cluster_path: Path, output: Path | None, tls: TlsFiles | None) -> None:
    """Measure how fast the devices of a cluster compute and exchange messages.

    The workers must run, and should have nothing else to do meanwhile. Writes FILE.calibration.yaml beside the cluster
    file; `flexpie plan` and `flexpie-master` read it from there.
    """
    from flexpie.cli.progress import progress_bar
    from flexpie.master.calibration_file import calibration_path, write_calibration
    from flexpie.master.cluster_file import read_cluster_file

    cluster = read_cluster_file(cluster_path, with_calibration=False).cluster
    path = output or calibration_path(cluster_path)
    with progress_bar() as bar:
        calibration = asyncio.run(_calibrate(cluster, load_tls(tls, [Role.MASTER]), bar))
    write_calibration(path, calibration)
    _print(calibration)
    click.echo(f"{counted(len(calibration.devices), 'device')} measured: {path}")


async def _calibrate(cluster: Cluster, credentials: Credentials | None, bar: Progress) -> Calibration:
    from flexpie.traces.calibrating import calibrate as measure
    from flexpie.traces.workers import Workers

    task = bar.add_task("connecting", total=None)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    async with Workers(cluster, credentials) as workers:
        return await measure(
            workers, now, lambda step, done, total: bar.update(task, description=step, completed=done, total=total)
        )


def _print(calibration: Calibration) -> None:
    from rich.console import Console
    from rich.table import Table

    from flexpie.core.rates import REFERENCE_RATES

    devices = Table("device", "dense", "depthwise", "matrix", "element-wise", "memory", "operator", "message")
    for device in calibration.devices:
        rates = device.rates
        message = rates.send_seconds + rates.receive_seconds + rates.start_seconds
        devices.add_row(
            device.name,
            *(f"{value / 1e9:.1f} GFLOP/s" for value in (
                rates.dense_flops_per_second, rates.depthwise_flops_per_second,
                rates.matrix_flops_per_second, rates.element_flops_per_second,
            )),
            f"{rates.memory_bytes_per_second / 1e9:.1f} GB/s",
            f"{rates.node_seconds * 1e6:.1f} µs",
            f"{message * 1e3:.2f} ms",
        )  # fmt: skip
    reference = REFERENCE_RATES.dense_flops_per_second / 1e9
    devices.caption = f"The reference core (speed 1) computes dense convolutions with {reference:g} GFLOP/s."
    console = Console(width=110)
    console.print(devices)
    if calibration.links:
        links = Table("link", "bandwidth", "latency")
        for (source, destination), link in calibration.links.items():
            bandwidth = f"{link.bandwidth_bytes_per_second * 8 / 1e6:.0f} Mbit/s"
            links.add_row(f"{source} → {destination}", bandwidth, f"{link.latency_seconds * 1e6:.0f} µs")
        console.print(links)
