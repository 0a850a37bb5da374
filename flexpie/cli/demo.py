"""`flexpie demo`: a photograph and handwritten digits, answered by three worker processes at once."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import EXIT_DIFFERENT, json_option, print_json, reporting

if TYPE_CHECKING:
    from flexpie.client import Client, ModelInfo

_LOAD_SECONDS = 120.0
_RUNS = 10


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
    from flexpie.cli.embedded import EmbeddedCluster
    from flexpie.client import Client

    click.echo(f"Starting {workers} workers and a master …", err=True)
    with tempfile.TemporaryDirectory(prefix="flexpie-demo-") as folder, EmbeddedCluster(workers) as cluster, Client(
        cluster.address
    ) as client:  # fmt: skip
        photograph = _photograph(client, Path(folder))
        digits = _digits(client, Path(folder))
    if as_json:
        print_json({"workers": workers, "photograph": photograph, "digits": digits})
    else:
        _report(photograph, digits)
    if not (photograph["outputs_equal"] and digits["same_classes"] == digits["images"]):
        raise SystemExit(EXIT_DIFFERENT)


def _photograph(client: Client, folder: Path) -> dict[str, Any]:
    import flexpie_models
    from flexpie.cli.comparing import compare
    from flexpie.cli.reference import UnsplitModel

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
    from flexpie.cli.reference import UnsplitModel

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


def _report(photograph: dict[str, Any], digits: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for result in (photograph, digits):
        table = Table(title=f"{result['model']} on {len(result['devices'])} workers")
        for column in ("segment", "layers", "scheme", "exchange before"):
            table.add_column(column, justify="left" if column == "scheme" else "right")
        for index, segment in enumerate(result["segments"]):
            exchange = f"{segment['exchange_bytes'] / 1e3:,.1f} kB"
            table.add_row(str(index), str(segment["layers"]), segment["scheme"], exchange)
        console.print(table)
    console.print(f"Photograph {photograph['picture']}")
    console.print(f"  unsplit: classes {photograph['top_classes_unsplit']} in {_ms(photograph['unsplit_seconds'])}")
    console.print(f"  split:   classes {photograph['top_classes_split']} in {_ms(photograph['split_seconds'])}")
    console.print(f"  largest difference of the 1000 outputs: {photograph['max_abs_error']:.2g}")
    console.print(f"{digits['images']} handwritten digits, never seen in training")
    console.print(
        f"  unsplit: {digits['accuracy_unsplit']:.1%} right, {_ms(digits['unsplit_seconds'])} for all;"
        f" split: {digits['accuracy_split']:.1%} right, {_ms(digits['split_seconds'])}"
    )
    console.print(
        f"  the same class for {digits['same_classes']} of {digits['images']} images, "
        f"largest difference {digits['max_abs_error']:.2g}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
