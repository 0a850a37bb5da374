"""`flexpie demo`: a photograph and handwritten digits, answered by three worker processes at once."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import EXIT_DIFFERENT, counted, json_option, print_json, reporting

if TYPE_CHECKING:
    from flexpie.client import Client, ModelInfo

_LOAD_SECONDS = 120.0
_RUNS = 10
_DIVIDES = {"InH": "rows", "InW": "columns", "OutC": "channels", "Grid2D": "rows × columns", "Batch": "images",
            "Replicated": "everybody has all"}  # fmt: skip


@click.command()
@click.option("--workers", default=3, show_default=True, type=click.IntRange(1, 8), help="Worker processes.")
@json_option
@reporting
def demo(workers: int, as_json: bool) -> None:
    """Start a small cluster on this machine, run two models on it, and compare with the unsplit models.

    ResNet-18 (random weights) looks at a real photograph; a trained CNN reads handwritten digits that it has never
    seen. Three processes on one machine share its cores: the times show that it works, not how fast devices of your
    own would be.
    """
    import flexpie.pipeline  # noqa: F401  (the master needs it; without it, say so before processes start)
    import flexpie_models  # noqa: F401
    from flexpie.cli.embedded import EmbeddedCluster
    from flexpie.client import Client

    click.echo(f"Starting {counted(workers, 'worker')} and a master …", err=True)
    with tempfile.TemporaryDirectory(prefix="flexpie-demo-") as folder, EmbeddedCluster(workers) as cluster, Client(
        cluster.address
    ) as client:  # fmt: skip
        photograph = _photograph(client, Path(folder))
        digits = _digits(client, Path(folder))
        devices = [device.name for device in client.status().devices]
    if as_json:
        print_json({"workers": workers, "photograph": photograph, "digits": digits})
    else:
        _report(photograph, digits, devices)
    if not (photograph["outputs_equal"] and digits["same_classes"] == digits["images"]):
        raise SystemExit(EXIT_DIFFERENT)


def _photograph(client: Client, folder: Path) -> dict[str, Any]:
    import flexpie_models
    from flexpie.reference.comparing import compare
    from flexpie.reference.unsplit import UnsplitModel

    path = folder / "resnet18.onnx"
    path.write_bytes(flexpie_models.build("resnet18").SerializeToString())
    click.echo("Loading ResNet-18 …", err=True)
    info = client.load(path, timeout=_LOAD_SECONDS)
    name, picture = flexpie_models.sample_photograph()
    description = flexpie_models.describe("resnet18").image
    assert description is not None
    feeds = {"input": flexpie_models.prepare_image(picture, description)}
    unsplit = UnsplitModel(path)
    unsplit.run(feeds)
    expected, unsplit_seconds = unsplit.run(feeds)
    client.infer(info.name, feeds)
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        actual = client.infer(info.name, feeds)
        times.append(time.perf_counter() - start)
    comparison = compare(expected, actual)
    top = [[int(index) for index in (-array["logits"][0]).argsort()[:5]] for array in (expected, actual)]
    return {
        **_summary(info),
        "picture": f"{name}, {picture.shape[1]}×{picture.shape[0]} pixels",
        "top_classes_unsplit": top[0],
        "top_classes_split": top[1],
        "max_abs_error": comparison.max_abs_error,
        "outputs_equal": comparison.equal,
        "unsplit_seconds": unsplit_seconds,
        "split_seconds": sorted(times)[_RUNS // 2],
    }


def _digits(client: Client, folder: Path) -> dict[str, Any]:
    import numpy as np

    import flexpie_models
    from flexpie.reference.unsplit import UnsplitModel

    images, labels = flexpie_models.held_out_digits()
    path = folder / "digits.onnx"
    path.write_bytes(flexpie_models.load_digits_model().SerializeToString())
    click.echo("Loading the digits classifier …", err=True)
    info = client.load(path, input_shapes={"image": images.shape}, timeout=_LOAD_SECONDS)
    expected, unsplit_seconds = UnsplitModel(path).run({"image": images})
    client.infer(info.name, {"image": images})
    start = time.perf_counter()
    actual = client.infer(info.name, {"image": images})
    split_seconds = time.perf_counter() - start
    before, after = expected["probabilities"], actual["probabilities"]
    return {
        **_summary(info),
        "images": len(labels),
        "accuracy_unsplit": float((before.argmax(1) == labels).mean()),
        "accuracy_split": float((after.argmax(1) == labels).mean()),
        "same_classes": int((before.argmax(1) == after.argmax(1)).sum()),
        "max_abs_error": float(np.abs(before - after).max()),
        "unsplit_seconds": unsplit_seconds,
        "split_seconds": split_seconds,
    }


def _summary(info: ModelInfo) -> dict[str, Any]:
    return {
        "model": info.name,
        "devices": list(info.devices),
        "segments": [
            {"layers": len(segment.layers), "scheme": segment.scheme, "exchange_bytes": segment.exchange_bytes}
            for segment in info.segments
        ],
    }


def _scheme(scheme: str, devices: Sequence[str]) -> str:
    """A scheme as people read it: what it divides, or the name of the only device instead of its index."""
    match = re.fullmatch(r"Single\((\d+)\)", scheme)
    return f"Single: {devices[int(match[1])]}" if match else f"{scheme}: {_DIVIDES.get(scheme, '')}".rstrip(": ")


def _report(photograph: dict[str, Any], digits: dict[str, Any], devices: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for result in (photograph, digits):
        table = Table(title=f"Plan: {result['model']} on {counted(len(result['devices']), 'worker')}")
        for column in ("segment", "layers", "scheme", "sent before it"):
            table.add_column(column, justify="left" if column == "scheme" else "right")
        for number, segment in enumerate(result["segments"], 1):
            sent = f"{segment['exchange_bytes'] / 1e3:,.1f} kB"
            table.add_row(str(number), str(segment["layers"]), _scheme(segment["scheme"], devices), sent)
        console.print(table)
    click.echo(f"Photograph {photograph['picture']}: the best five of 1000 classes")
    click.echo(f"  unsplit  {photograph['top_classes_unsplit']} in {_ms(photograph['unsplit_seconds'])}")
    click.echo(f"  split    {photograph['top_classes_split']} in {_ms(photograph['split_seconds'])}")
    click.echo(f"  largest difference of the 1000 outputs: {photograph['max_abs_error']:.2g}")
    click.echo(f"{digits['images']} handwritten digits, never seen in training, in one batch")
    click.echo(f"  unsplit  {digits['accuracy_unsplit']:.1%} right in {_ms(digits['unsplit_seconds'])}")
    click.echo(f"  split    {digits['accuracy_split']:.1%} right in {_ms(digits['split_seconds'])}")
    click.echo(
        f"  the same class for {digits['same_classes']} of {digits['images']} images, "
        f"largest difference {digits['max_abs_error']:.2g}"
    )
    click.echo("All workers share this machine's cores: the times show that it works, not how fast it is.")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
