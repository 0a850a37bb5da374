"""`flexpie models`: example models, built in code."""

from __future__ import annotations

from pathlib import Path

import click

from flexpie.cli.console import json_option, print_json, reporting
from flexpie.core.errors import ErrorCode, FlexPieError


@click.group()
def models() -> None:
    """Build example models: standard architectures with seeded random weights, and a trained digits classifier."""


@models.command("list")
@json_option
@reporting
def list_models(as_json: bool) -> None:
    """List what can be built."""
    import flexpie_models

    found = {name: flexpie_models.describe(name) for name in flexpie_models.NAMES}
    if as_json:
        print_json({"models": [{"name": name, "title": about.title, "parameters": about.parameters,
                                "trained": about.trained} for name, about in found.items()]})  # fmt: skip
        return
    for name, about in found.items():
        weights = "trained" if about.trained else "random weights"
        click.echo(f"{name:22} {about.title}, {about.parameters / 1e6:.2f} M parameters, {weights}")


@models.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: NAME.onnx.")
@click.option("--seed", default=0, show_default=True, help="Seed of the weights.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Batch size.")
@click.option("--image-size", type=click.IntRange(32), help="Height and width; default: the model's own.")
@click.option("--sequence-length", default=128, show_default=True, type=click.IntRange(1, 512), help="Tokens of text.")
@click.option("--dynamic", is_flag=True, help="Leave batch size and sequence length open.")
@json_option
@reporting
def build(
    name: str, output: Path | None, seed: int, batch: int, image_size: int | None, sequence_length: int, dynamic: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Build the model NAME and write it as an ONNX file."""
    import flexpie_models

    if name not in flexpie_models.NAMES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            f"There is no example model {name!r}.",
            f"Choose one of: {', '.join(flexpie_models.NAMES)}.",
        )
    path = output or Path(f"{name}.onnx")
    model = flexpie_models.build(
        name, seed=seed, batch=batch, image_size=image_size, sequence_length=sequence_length, dynamic=dynamic
    )
    path.write_bytes(model.SerializeToString())
    if as_json:
        print_json({"name": name, "path": str(path), "bytes": path.stat().st_size})
        return
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
