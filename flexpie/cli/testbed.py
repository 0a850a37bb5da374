"""`flexpie testbed`: devices emulated on this machine."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flexpie.cli.console import json_option, print_json, reporting
from flexpie.cli.testbed_options import Bandwidths, CpuShares, bandwidth_text
from flexpie.core.errors import ErrorCode, FlexPieError

if TYPE_CHECKING:
    from flexpie.testbed import Description, Testbed
    from flexpie.testbed.records import Records, RunRecord
    from flexpie.testbed.selftest import SelfTest

EXIT_NOISY = 1
"""`up --self-test`: figures of this testbed would not count."""
DETACH_SECONDS = 180.0
"""How long a testbed in the background may take until it is ready."""

_READY = re.compile(rb"^testbed (\w+) is ready$", re.MULTILINE)


@click.group()
def testbed() -> None:
    """Emulate devices on this machine (Linux, as root).

    Each device is a real flexpie-worker in a network namespace of its own, with a CPU quota and a shaped link.
    """


@testbed.command()
@click.option("--devices", "count", default=4, show_default=True, type=click.IntRange(1, 64), help="How many.")
@click.option(
    "--cpu",
    default="20%",
    show_default=True,
    type=CpuShares(),
    help="Share of a core of every device, or one for each.",
)
@click.option(
    "--bandwidth",
    default="1gbit",
    show_default=True,
    type=Bandwidths(),
    help="Of every device's port, or one for each.",
)
@click.option(
    "--topology",
    default="mesh",
    show_default=True,
    type=click.Choice(["mesh", "ring", "star"]),
    help="How messages travel; the first device is the centre of a star.",
)
@click.option("--master", "with_master", is_flag=True, help="Run a flexpie-master for the devices, too.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where logs and cluster file go, and stay. Otherwise they go with the testbed.",
)
@click.option(
    "--self-test",
    is_flag=True,
    help="Measure every device and link first; end with code 1 if the machine is too noisy.",
)
@click.option("--detach", is_flag=True, help="Come back when it is ready; 'flexpie testbed down' removes it.")
@reporting
def up(
    count: int, cpu: list[float], bandwidth: list[float], topology: str, with_master: bool, folder: Path | None,
    self_test: bool, detach: bool,
) -> None:  # fmt: skip
    """Start devices, and keep them until Ctrl-C."""
    _require_pyroute2()
    from flexpie.core.cluster import Topology
    from flexpie.testbed import uniform
    from flexpie.testbed.testbed import check_rights

    description = uniform(count, _one_or_each(cpu), _one_or_each(bandwidth), Topology(topology))
    check_rights()
    if detach:
        _start_detached(description, with_master, folder, self_test)
    else:
        _keep(description, with_master, folder, self_test)


@testbed.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every testbed of this machine.")
@reporting
def down(run: str | None, everything: bool) -> None:
    """Remove a testbed, or what a crash has left of it. RUN is its id; not needed when there is one only."""
    _require_pyroute2()
    from flexpie.testbed.cpu import find_cpu_controller
    from flexpie.testbed.leftovers import end_testbed
    from flexpie.testbed.records import Records

    records = _records(Records())
    chosen = records if everything else _choose(records, run)
    for record in chosen:
        end_testbed(record, Records(), find_cpu_controller(Path("/proc/mounts").read_text()))
        click.echo(f"removed testbed {record.run}")
    if not chosen:
        click.echo("there is no testbed")


@testbed.command()
@json_option
@reporting
def status(as_json: bool) -> None:
    """Show the testbeds of this machine."""
    from flexpie.testbed.records import Records

    records = _records(Records())
    if as_json:
        print_json({"testbeds": [
            {**dataclasses.asdict(record), "state": _state(record),
             "devices": [{**dataclasses.asdict(device), "alive": device.worker.alive} for device in record.devices]}
            for record in records
        ]})  # fmt: skip
        return
    for record in records:
        click.echo(f"testbed {record.run}: {_state(record)}, {record.topology}, kept by process {record.owner.pid}, "
                   f"files in {record.folder}")  # fmt: skip
        for device in record.devices:
            life = f"worker {device.worker.pid}" if device.worker.alive else "worker has ended"
            click.echo(f"  {device.name:8} {device.address:22} {device.cpu:>7.1%} of a core  "
                       f"{bandwidth_text(device.bandwidth_bits_per_second):>12}  {life}")  # fmt: skip
    if not records:
        click.echo("there is no testbed")


# ----------------------------------------------------------------------------------------------------- up


def _keep(description: Description, with_master: bool, folder: Path | None, self_test: bool) -> None:
    from flexpie.testbed import MASTER, Testbed

    with Testbed(description, folder=folder) as bed:
        _show(bed)
        if self_test and not _passes_self_test(bed):
            raise SystemExit(EXIT_NOISY)
        inside = f"ip netns exec {bed.hosts[-1].namespace}"
        if with_master:
            click.echo(f"master: {bed.run_master().address()}, reached from its own host: "
                       f"{inside} flexpie status --master {bed.hosts[-1].address}:50050")  # fmt: skip
        else:
            click.echo(f"run a master with: {inside} flexpie-master --cluster {bed.cluster_file}")
        click.echo(f"testbed {bed.run_id} is ready")
        try:
            while True:
                time.sleep(0.5)  # signal.pause would miss a signal that comes just before it
        except KeyboardInterrupt:
            click.echo(f"removing testbed {bed.run_id}; {MASTER} and devices end")


def _show(bed: Testbed) -> None:
    click.echo(f"testbed {bed.run_id}: {len(bed.devices)} devices, {bed.description.topology.value}")
    for device in bed.devices:
        click.echo(
            f"  {device.name:8} {device.address:22} {device.description.cpu:>7.1%} of a core  "
            f"{bandwidth_text(device.description.bandwidth_bits_per_second):>12}  namespace {device.namespace}"
        )
    click.echo(f"cluster file: {bed.cluster_file}")


def _passes_self_test(bed: Testbed) -> bool:
    from flexpie.testbed.selftest import run_self_test

    click.echo("Measuring devices and links …", err=True)
    found = run_self_test(bed)
    _show_self_test(found)
    return found.quiet


def _show_self_test(found: SelfTest) -> None:
    for device in found.devices:
        click.echo(f"  {device.name:18} {device.measured:>10.1%} of a core (wanted {device.wanted:.1%})")
    for link in found.links:
        click.echo(f"  {f'{link.source} → {link.destination}':18} {link.measured_bits_per_second / 1e6:>7.0f} Mbit/s "
                   f"(wanted {link.wanted_bits_per_second / 1e6:g}, headers included)")  # fmt: skip
    for complaint in found.complaints:
        click.echo(f"too noisy: {complaint}", err=True)


def _start_detached(description: Description, with_master: bool, folder: Path | None, self_test: bool) -> None:
    """Let another process keep the testbed; returns when it is ready, and ends the command when it fails."""
    words = ["--devices", str(len(description.devices)), "--topology", description.topology.value]
    words += ["--cpu", ",".join(f"{device.cpu:.9f}" for device in description.devices)]
    words += ["--bandwidth", ",".join(f"{device.bandwidth_bits_per_second:.3f}bit" for device in description.devices)]
    words += ["--master"] if with_master else []
    words += ["--folder", str(folder.absolute())] if folder else []
    words += ["--self-test"] if self_test else []
    with tempfile.TemporaryFile() as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "flexpie.cli.main", "testbed", "up", *words],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            ready = _wait_until_ready(keeper, output.fileno())
        except BaseException:
            keeper.terminate()
            keeper.wait()
            raise
        click.echo(_printed(output.fileno()).decode(errors="replace"), nl=False, err=ready is None)
    if not ready:
        raise SystemExit(keeper.returncode)
    click.echo(f"'flexpie testbed down {ready}' removes it")


def _wait_until_ready(keeper: subprocess.Popen[bytes], output: int) -> str | None:
    """Id of the run; None when the keeper has ended instead."""
    deadline = time.monotonic() + DETACH_SECONDS
    while keeper.poll() is None:
        if match := _READY.search(_printed(output)):
            return match[1].decode()
        if time.monotonic() > deadline:
            raise FlexPieError(ErrorCode.DEADLINE_EXCEEDED, f"The testbed was not ready in {DETACH_SECONDS:g} s.")
        time.sleep(0.05)
    return None


def _printed(output: int) -> bytes:
    # pread leaves the place where the keeper writes next, which is shared with it, where it is.
    return os.pread(output, os.fstat(output).st_size, 0)


# ------------------------------------------------------------------------------------------- down, status


def _records(records: Records) -> list[RunRecord]:
    from flexpie.testbed.testbed import check_rights

    check_rights()
    return records.all()


def _choose(records: list[RunRecord], run: str | None) -> list[RunRecord]:
    chosen = [record for record in records if run in (None, record.run)]
    known = ", ".join(record.run for record in records) or "none"
    if run is not None and not chosen:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"There is no testbed {run!r}.", f"There is: {known}.")
    if run is None and len(chosen) > 1:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"There are several testbeds: {known}.",
                           "Name one of them, or use --all.")  # fmt: skip
    return chosen


def _state(record: RunRecord) -> str:
    if not record.owner.alive:
        return "left over by a crash"
    return "running" if record.ready else "starting"


def _one_or_each(values: list[float]) -> float | list[float]:
    return values[0] if len(values) == 1 else values


def _require_pyroute2() -> None:
    if importlib.util.find_spec("pyroute2") is None:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "The testbed needs the package pyroute2.",
                           "Install it with: pip install 'flexpie[testbed]'")  # fmt: skip
