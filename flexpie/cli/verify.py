"""`flexpie verify`: is the split answer the unsplit one?"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import (
    EXIT_DIFFERENT,
    boundary_option,
    counted,
    json_option,
    print_json,
    profile_option,
    profiles_of,
    reporting,
    scheme_option,
    shape_option,
)
from flexpie.cli.tls_options import tls_options
from flexpie.core.boundary import Boundary
from flexpie.core.errors import ErrorCode, FlexPieError

if TYPE_CHECKING:
    from flexpie.client import Client
    from flexpie.core.graph import LayerGraph
    from flexpie.security.credentials import TlsFiles

_LOAD_SECONDS = 600.0


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--local", "workers", type=click.IntRange(1, 16), help="Start this many workers on this machine.")
@click.option("--cluster", "cluster_path", type=click.Path(path_type=Path), help="Use the workers of a cluster file.")
@tls_options
@scheme_option
@boundary_option
@shape_option
@profile_option
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Requests, each with other inputs.")
@json_option
@reporting
def verify(
    model: Path,
    workers: int | None,
    cluster_path: Path | None,
    tls: TlsFiles | None,
    scheme: str,
    boundary: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    profiles: tuple[dict[str, tuple[int, ...]], ...],
    runs: int,
    as_json: bool,
) -> None:
    """Run MODEL split and unsplit on the same random inputs and compare the outputs.

    Exit code 1 when they differ by more than rounding: 1e-4 for float32 (or 1e-5 of the largest output), nothing for
    integers. With float16 boundaries floats may differ by 2 % of the largest output; how much they do is told. Of
    several profiles each gets its requests.
    """
    if (workers is None) == (cluster_path is None):
        raise click.UsageError("give either --local N or --cluster FILE")
    if cluster_path is None:
        tls = None  # nobody else reaches the workers of this machine
    wanted = profiles_of(shapes, profiles)
    import flexpie.pipeline  # noqa: F401  (the master needs it; without it, say so before processes start)
    from flexpie.cli.embedded import EmbeddedCluster
    from flexpie.client import Client

    started = f"{counted(workers, 'worker')} and " if workers else ""
    click.echo(f"Starting {started}a master …", err=True)
    with EmbeddedCluster(workers or 0, cluster_path, tls) as cluster, Client(cluster.address, tls=tls) as client:
        click.echo(f"Loading {model.name} …", err=True)
        try:
            result = compare_on(client, model, scheme, wanted, runs, boundary)
        finally:
            _tell_absent(client)
    if as_json:
        print_json(result)
    else:
        _print_result(result)
    sys.exit(0 if result["outputs_equal"] else EXIT_DIFFERENT)


def _tell_absent(client: Client) -> None:
    """Which devices of the cluster file took no part, and why."""
    with contextlib.suppress(FlexPieError):  # what the command ended with matters more
        for device in client.status().devices:
            if device.state != "connected":
                click.echo(f"without {device.name}, which is {device.state}: {device.reason}", err=True)


def compare_on(
    client: Client,
    model: Path,
    scheme: str,
    profiles: Sequence[dict[str, tuple[int, ...]]],
    runs: int,
    boundary: str | None = None,
) -> dict[str, Any]:
    """Load a model into a running cluster, run it there and here, and compare; the result that `--json` prints."""
    from flexpie import pipeline
    from flexpie.reference.comparing import compare, random_inputs
    from flexpie.reference.unsplit import UnsplitModel

    graphs = [pipeline.import_file(model, shapes).graph for shapes in profiles]
    _check_comparable(graphs[0])
    info = client.load(model, profiles=profiles, scheme=scheme, boundary=boundary, timeout=_LOAD_SECONDS)
    try:
        unsplit = UnsplitModel(model)
        worst_abs, worst_rel, equal = 0.0, 0.0, True
        unsplit_seconds, split_seconds = [], []
        for graph, seed in itertools.product(graphs, range(runs)):
            feeds = random_inputs(graph, seed)
            expected, seconds = unsplit.run(feeds)
            unsplit_seconds.append(seconds)
            start = time.perf_counter()
            actual = client.infer(info.name, feeds)
            split_seconds.append(time.perf_counter() - start)
            comparison = compare(expected, actual, Boundary(info.boundary))
            worst_abs = max(worst_abs, comparison.max_abs_error)
            worst_rel = max(worst_rel, comparison.max_rel_error)
            equal = equal and comparison.equal
    finally:
        client.unload(info.name)
    return {
        "model": info.name,
        "devices": len(info.devices),
        "scheme": scheme,
        "segments": len(info.segments),
        "profiles": len(graphs),
        "boundary": info.boundary,
        "max_abs_error": worst_abs,
        "max_rel_error": worst_rel,
        "outputs_equal": equal,
        "unsplit_seconds": statistics.median(unsplit_seconds),
        "split_seconds": statistics.median(split_seconds),
    }


def _check_comparable(graph: LayerGraph) -> None:
    """Raise ``UNSUPPORTED_MODEL`` for a model whose answers differ every time."""
    drawing = sorted({operator.op_type for operator in graph.operators() if operator.draws})
    if drawing:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"{graph.name} draws random numbers ({', '.join(drawing)}): no two answers are the same, so none can be "
            "compared.",
            "Verify the model without these operators, or with Dropout and the like in inference mode.",
        )


def _print_result(result: dict[str, Any]) -> None:
    click.echo(
        f"{result['model']} on {counted(result['devices'], 'device')}, scheme {result['scheme']}, "
        f"{counted(result['segments'], 'segment')}"
    )
    rounded = result["boundary"] != Boundary.FLOAT32.value
    if rounded:
        click.echo(f"tensors that devices exchange are {result['boundary']}")
    equal = "equal but for what these round" if rounded else "equal within rounding"
    verdict = equal if result["outputs_equal"] else "DIFFERENT"
    click.echo(
        f"outputs are {verdict}: largest difference {result['max_abs_error']:.3g} "
        f"({result['max_rel_error']:.3g} of the largest output)"
    )
    click.echo(
        f"median time: unsplit in onnxruntime {result['unsplit_seconds'] * 1e3:.1f} ms, "
        f"split {result['split_seconds'] * 1e3:.1f} ms"
    )
