"""`flexpie infer`: one request to a running master, from arrays or pictures."""

from __future__ import annotations

import json
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from flexpie.cli.console import json_option, master_option, print_json, reporting
from flexpie.cli.tls_options import tls_options
from flexpie.core.errors import ErrorCode, FlexPieError

if TYPE_CHECKING:
    from flexpie.client import ModelInfo, TensorInfo
    from flexpie.security.credentials import TlsFiles

_PIXELS = {"float32", "uint8"}
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, metavar="[NAME=]FILE...")
@master_option
@tls_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all outputs as .npz.")
@click.option("--top", default=5, show_default=True, help="Largest values to show of each output.")
@click.option("--plain", is_flag=True, help="Scale pictures to 0..1 only, without ImageNet's mean and deviation.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0.001), help="Seconds until giving up."
)
@click.option(
    "--trace",
    "trace_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what each device did when, as a timeline for ui.perfetto.dev or chrome://tracing.",
)
@json_option
@reporting
def infer(
    model: str, inputs: tuple[str, ...], address: str, tls: TlsFiles | None, output: Path | None, top: int, plain: bool,
    timeout: float, trace_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run MODEL once. Inputs are .npy or .npz files, or pictures where the model takes an image.

    NAME= may be left away when the model has one input.
    """
    from flexpie.client import Client
    from flexpie.client.timelines import timeline

    with Client(address, tls=tls) as client:
        info = client.model(model)
        feeds: dict[str, npt.NDArray[Any]] = {}
        for item in inputs:
            found = _read_input(info, item, plain)
            if twice := feeds.keys() & found.keys():
                raise FlexPieError(ErrorCode.INVALID_INPUT, f"The input {min(twice)} is given twice, by {item} too.")
            feeds.update(found)
        with client.trace(model, timeout) if trace_path is not None else nullcontext() as traces:
            start = time.perf_counter()
            outputs = client.infer(model, feeds, timeout=timeout)
            seconds = time.perf_counter() - start
            if trace_path is not None and traces is not None:
                trace_path.write_text(json.dumps(timeline(next(traces))), encoding="utf-8")
    if output is not None:
        _save(output, outputs)
    if as_json:
        print_json({"model": model, "seconds": seconds,
                    "outputs": {name: {"shape": list(array.shape), "dtype": str(array.dtype), "top": _top(array, top)}
                                for name, array in outputs.items()}})  # fmt: skip
        return
    for name, array in outputs.items():
        shown = ", ".join(f"{index}: {value:.4g}" for index, value in _top(array, top))
        click.echo(f"{name} {array.dtype}{list(array.shape)}  {shown}")
    click.echo(f"{seconds * 1e3:.1f} ms", err=True)


def _read_input(info: ModelInfo, item: str, plain: bool) -> dict[str, npt.NDArray[Any]]:
    """One command-line input as arrays by name."""
    names = [tensor.name for tensor in info.inputs]
    name, equals, text = item.partition("=")
    if not equals or (name not in names and Path(item).exists()):
        name, text = "", item
    path = Path(text)
    arrays = None if path.suffix.lower() in _PICTURES else _read_arrays(path)
    if isinstance(arrays, dict):
        return arrays
    if not name:
        if len(names) != 1:
            raise FlexPieError(
                ErrorCode.INVALID_INPUT,
                f"{info.name} has {len(names)} inputs; {item!r} does not say which one it is for.",
                f"Write NAME=FILE with one of: {', '.join(names)}.",
            )
        name = names[0]
    first = info.profiles[0]  # a picture is made for its shapes; arrays have theirs
    tensor = next((tensor for tensor in first.inputs if tensor.name == name), None)
    if tensor is None:
        raise FlexPieError(
            ErrorCode.INVALID_INPUT, f"{info.name} has no input {name!r}.", f"Its inputs are: {', '.join(names)}."
        )
    return {name: _picture(path, tensor, plain) if arrays is None else arrays}


def _read_arrays(path: Path) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """One array of a .npy file, or the arrays of a .npz file by name."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            return dict(archive)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FlexPieError(
            ErrorCode.INVALID_INPUT, f"{path} is neither a picture nor a file of numpy's arrays.",
            f"Pictures end in {', '.join(sorted(_PICTURES))}; save arrays with numpy.save, several with numpy.savez.",
        ) from error  # fmt: skip


def _picture(path: Path, tensor: TensorInfo, plain: bool) -> npt.NDArray[Any]:
    shape = tensor.shape
    if len(shape) != 4 or shape[1] not in (1, 3) or shape[2] != shape[3] or tensor.dtype not in _PIXELS:
        raise FlexPieError(
            ErrorCode.INVALID_INPUT,
            f"Input {tensor.name} ({tensor.dtype}{list(shape)}) takes no picture.",
            "Pictures are for float32 and uint8 inputs [batch, 1 or 3, size, size]; give a .npy file.",
        )
    from flexpie_models import ImageInput, prepare_image

    channels = int(shape[1])
    as_bytes = tensor.dtype == "uint8"  # the model does what mean and deviation are for (flexpie image-bytes)
    mean, deviation = (
        _IMAGENET if channels == 3 and not plain and not as_bytes else ((0.0,) * channels, (1.0,) * channels)
    )
    try:
        picture = prepare_image(path, ImageInput(int(shape[2]), tuple(mean), tuple(deviation), channels))
    except ValueError as error:
        raise FlexPieError(ErrorCode.INVALID_INPUT, f"{error}.", "Give another file.") from error
    pixels = np.rint(picture * 255).astype(np.uint8) if as_bytes else picture
    return np.repeat(pixels, int(shape[0]), axis=0)


def _save(path: Path, outputs: dict[str, npt.NDArray[Any]]) -> None:
    """Write an .npz file; numpy.savez would take an output called `file` for its own argument."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name.replace('/', '_')}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _top(array: npt.NDArray[Any], count: int) -> list[tuple[int, float]]:
    """The largest values of an output and their flat indices; none for strings."""
    if array.dtype.kind not in "fiub" or array.size == 0:
        return []
    flat = array.reshape(-1).astype(np.float64)
    order = np.argsort(-flat, kind="stable")[:count]
    return [(int(index), float(flat[index])) for index in order]
