"""`flexpie image-bytes`: a model that takes its image as bytes, a quarter of what floats take on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flexpie.cli.console import reporting


class NumbersType(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas between: ``0.485,0.456,0.406``."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no numbers; write them like 0.485,0.456,0.406", param, ctx)


@click.command("image-bytes")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--mean", type=NumbersType(), default=(), help="Of each channel, or of all, on the scale from 0 to 1.")
@click.option("--std", type=NumbersType(), default=(), help="Standard deviation, likewise.")
@click.option("--input", "input_name", default="", help="Which input; not needed where there is only one.")
@reporting
def image_bytes(model: Path, output: Path, mean: tuple[float, ...], std: tuple[float, ...], input_name: str) -> None:
    """Write a model to OUTPUT that takes uint8 images [N, C, H, W] where MODEL takes float32.

    It computes (x / 255 - mean) / std of the bytes x first, and each device does so for the part of the image that it
    needs: requests take a quarter of the bytes on their way to the devices.
    """
    from flexpie.compiler.image_bytes import write_with_image_bytes

    write_with_image_bytes(model, output, mean, std, input_name)
    click.echo(f"{output} takes bytes.")
