"""`flexpie load` and `flexpie unload`: models of a running master."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flexpie.cli.console import (
    boundary_option,
    counted,
    json_option,
    master_option,
    objective_option,
    print_json,
    profile_option,
    profiles_of,
    reporting,
    scheme_option,
    shape_option,
)
from flexpie.cli.tls_options import tls_options
from flexpie.core.boundary import Boundary
from flexpie.wire.plan_files import read_plan_text

if TYPE_CHECKING:
    from flexpie.client import LoadProgress, ModelInfo, ProfileInfo
    from flexpie.security.credentials import TlsFiles


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@master_option
@tls_options
@click.option("--name", help="Name to serve it under; default: the file's.")
@scheme_option
@objective_option
@boundary_option
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Deploy the plan of this file, as `flexpie plan --output` writes it, instead of searching for one.",
)
@shape_option
@profile_option
@click.option(
    "--in-flight", default=0, type=click.IntRange(0), help="Runs of it at once; default: by the room on the devices."
)
@click.option("--max-batch", default=1, show_default=True, type=click.IntRange(1), help="Requests of one run at most.")
@click.option(
    "--batch-wait",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="MS",
    help="Milliseconds that a request waits for others, with --max-batch.",
)
@click.option(
    "--timeout", default=600.0, show_default=True, type=click.FloatRange(0.001), help="Seconds until giving up."
)
@json_option
@reporting
def load(
    model: Path,
    address: str,
    tls: TlsFiles | None,
    name: str | None,
    scheme: str,
    objective: str,
    boundary: str | None,
    plan_path: Path | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    profiles: tuple[dict[str, tuple[int, ...]], ...],
    in_flight: int,
    max_batch: int,
    batch_wait: float,
    timeout: float,
    as_json: bool,
) -> None:
    """Upload MODEL to a running master, which plans it and deploys it to its workers."""
    wanted = profiles_of(shapes, profiles)
    given = None if plan_path is None else read_plan_text(plan_path)
    from flexpie.client import Client

    with Client(address, tls=tls) as client, _progress() as shown:
        info = client.load(
            model,
            name=name,
            profiles=wanted,
            scheme=scheme,
            plan=given,
            objective=objective,
            boundary=boundary,
            in_flight=in_flight,
            max_batch=max_batch,
            batch_wait=batch_wait / 1e3,
            timeout=timeout,
            on_progress=shown.show,
        )
    if as_json:
        print_json({"name": info.name, "state": info.state, **_summary(info),
                    "profiles": [{"inputs": {tensor.name: list(tensor.shape) for tensor in profile.inputs},
                                  **_summary(profile)} for profile in info.profiles]})  # fmt: skip
        return
    for profile in info.profiles:
        which = f" for {described_inputs(profile)}" if len(info.profiles) > 1 else ""
        click.echo(
            f"{info.name}{which} is {info.state} on {', '.join(profile.devices)}: "
            f"{counted(len(profile.segments), 'segment')}, predicted {profile.predicted_seconds * 1e3:.1f} ms "
            f"(best single device {profile.single_device_seconds * 1e3:.1f} ms"
            f"{'' if profile.single_device_fits else ', but lacks the memory'}; "
            f"with many requests in flight {profile.requests_per_second:.3g} requests/s), "
            f"pushed {profile.pushed_bytes / 1e6:.1f} MB{rounding(profile)}"
            f"{f'; {profile.remark}' if profile.remark else ''}"
        )


def described_inputs(profile: ProfileInfo) -> str:
    """The shapes of a profile, as they are written on the command line."""
    return ",".join(f"{tensor.name}={'x'.join(map(str, tensor.shape))}" for tensor in profile.inputs)


def rounding(item: ModelInfo | ProfileInfo) -> str:
    """What is to be said about what its devices exchange."""
    return "" if item.boundary == Boundary.FLOAT32.value else f"; {item.boundary} between devices"


def _summary(info: ModelInfo | ProfileInfo) -> dict[str, object]:
    return {
        "deployment_id": info.deployment_id,
        "devices": list(info.devices),
        "segments": len(info.segments),
        "predicted_seconds": info.predicted_seconds,
        "single_device_seconds": info.single_device_seconds,
        "single_device_fits": info.single_device_fits,
        "requests_per_second": info.requests_per_second,
        "boundary": info.boundary,
        "pushed_bytes": info.pushed_bytes,
        "resident_bytes": dict(info.resident_bytes),
        "remark": info.remark,
    }


@click.command()
@click.argument("name")
@master_option
@tls_options
@json_option
@reporting
def unload(name: str, address: str, tls: TlsFiles | None, as_json: bool) -> None:
    """Stop serving the model NAME; its requests in flight finish."""
    from flexpie.client import Client

    with Client(address, tls=tls) as client:
        client.unload(name)
    if as_json:
        print_json({"name": name, "state": "unloaded"})
    else:
        click.echo(f"{name} is unloaded")


def _progress() -> _Bars | _Lines:
    """Bars where somebody watches them; lines in a log, and on a device that has no more than a worker needs."""
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return _Bars()
    return _Lines()


def _label(progress: LoadProgress) -> str:
    """The stage of loading, and of several profiles which."""
    shared = progress.profiles == 1 or progress.stage in {"upload", "import"}
    return progress.stage if shared else f"{progress.stage} {progress.profile + 1}/{progress.profiles}"


def _amount(progress: LoadProgress) -> str:
    """How far the stage is."""
    if progress.unit == "seconds":
        return f"{progress.done} s"
    if not progress.total:
        return ""
    if progress.unit == "bytes":
        return f"{progress.done / 1e6:,.1f} of {progress.total / 1e6:,.1f} MB"
    return f"{progress.done} of {progress.total} {progress.unit}"


class _Lines:
    """One line on stderr for each stage of loading that begins."""

    def __init__(self) -> None:
        self._label = ""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, progress: LoadProgress) -> None:
        if progress.stage and _label(progress) != self._label:
            self._label = _label(progress)
            click.echo(f"{self._label} …", err=True)


class _Bars:
    """One progress bar on stderr for each stage of loading, and of several profiles for each of these."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(), console=Console(stderr=True),
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: LoadProgress) -> None:
        if not progress.stage:
            return
        label = _label(progress)
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, amount="", total=None)
        total = progress.total or None
        self._progress.update(self._tasks[label], completed=progress.done, total=total, amount=_amount(progress))
