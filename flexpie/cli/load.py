"""`flexpie load` and `flexpie unload`: models of a running master."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flexpie.cli.console import (
    json_option,
    master_option,
    print_json,
    profile_option,
    profiles_of,
    reporting,
    scheme_option,
    shape_option,
)

if TYPE_CHECKING:
    from flexpie.client import LoadProgress, ModelInfo, ProfileInfo


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@master_option
@click.option("--name", help="Name to serve it under; default: the file's.")
@scheme_option
@shape_option
@profile_option
@click.option("--timeout", default=600.0, show_default=True, help="Seconds until giving up.")
@json_option
@reporting
def load(
    model: Path,
    address: str,
    name: str | None,
    scheme: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    profiles: tuple[dict[str, tuple[int, ...]], ...],
    timeout: float,
    as_json: bool,
) -> None:
    """Upload MODEL to a running master, which plans it and deploys it to its workers."""
    wanted = profiles_of(shapes, profiles)
    from flexpie.client import Client

    with Client(address) as client, _Bars() as bars:
        info = client.load(
            model,
            name=name,
            profiles=wanted,
            scheme=scheme,
            timeout=timeout,
            on_progress=bars.show,
        )
    if as_json:
        print_json({"name": info.name, "state": info.state, **_summary(info),
                    "profiles": [{"inputs": {tensor.name: list(tensor.shape) for tensor in profile.inputs},
                                  **_summary(profile)} for profile in info.profiles]})  # fmt: skip
        return
    for profile in info.profiles:
        which = f" for {described_inputs(profile)}" if len(info.profiles) > 1 else ""
        click.echo(
            f"{info.name}{which} is {info.state} on {', '.join(profile.devices)}: {len(profile.segments)} segments, "
            f"predicted {profile.predicted_seconds * 1e3:.1f} ms (best single device "
            f"{profile.single_device_seconds * 1e3:.1f} ms), pushed {profile.pushed_bytes / 1e6:.1f} MB"
        )


def described_inputs(profile: ProfileInfo) -> str:
    """The shapes of a profile, as they are written on the command line."""
    return ",".join(f"{tensor.name}={'x'.join(map(str, tensor.shape))}" for tensor in profile.inputs)


def _summary(info: ModelInfo | ProfileInfo) -> dict[str, object]:
    return {
        "deployment_id": info.deployment_id,
        "devices": list(info.devices),
        "segments": len(info.segments),
        "predicted_seconds": info.predicted_seconds,
        "single_device_seconds": info.single_device_seconds,
        "pushed_bytes": info.pushed_bytes,
        "resident_bytes": dict(info.resident_bytes),
    }


@click.command()
@click.argument("name")
@master_option
@reporting
def unload(name: str, address: str) -> None:
    """Stop serving the model NAME."""
    from flexpie.client import Client

    with Client(address) as client:
        client.unload(name)
    click.echo(f"{name} is unloaded", err=True)


class _Bars:
    """One progress bar on stderr for each stage of loading, and of several profiles for each of these."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(), console=Console(stderr=True),
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end_stage()
        self._progress.stop()

    def show(self, progress: LoadProgress) -> None:
        if not progress.stage:
            return
        shared = progress.profiles == 1 or progress.stage in {"upload", "import"}
        label = progress.stage if shared else f"{progress.stage} {progress.profile + 1}/{progress.profiles}"
        if label not in self._tasks:
            self._end_stage()
            self._tasks[label] = self._progress.add_task(label, amount="", total=None)
        amount = f"{progress.done} of {progress.total} {progress.unit}" if progress.total else ""
        if progress.unit == "bytes" and progress.total:
            amount = f"{progress.done / 1e6:,.1f} of {progress.total / 1e6:,.1f} MB"
        self._progress.update(self._tasks[label], completed=progress.done, total=progress.total or None, amount=amount)

    def _end_stage(self) -> None:
        """The stage shown last is over, also where it could not tell how far it was: its clock stops."""
        for task in list(self._tasks.values())[-1:]:
            self._progress.update(task, completed=1, total=1)
