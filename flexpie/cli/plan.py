"""`flexpie plan`: what a cluster would do with a model, without touching it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import (
    boundary_option,
    json_option,
    objective_option,
    print_json,
    profile_option,
    profiles_of,
    reporting,
    scheme_option,
    shape_option,
)
from flexpie.core.boundary import Boundary
from flexpie.core.plan import Objective
from flexpie.core.strategy import AUTO
from flexpie.wire.plan_files import read_plan_text

if TYPE_CHECKING:
    from flexpie.cli.plan_report import Report
    from flexpie.compiler import ImportedModel
    from flexpie.core.cluster import Cluster

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--cluster", "cluster_path", required=True, type=click.Path(path_type=Path), help="Cluster file.")
@scheme_option
@objective_option
@boundary_option
@shape_option
@profile_option
@click.option("--plan", "plan_path", type=_FILE, help="Explain the plan of this file instead of searching for one.")
@click.option("--output", type=_FILE, help="Write the plan into a file, to be kept, edited and deployed.")
@click.option("--html", "page", type=_FILE, help="Write a page with a picture of the plan.")
@click.option("--compare/--no-compare", default=True, show_default=True, help="Compare with other strategies.")
@json_option
@reporting
def plan(
    model: Path,
    cluster_path: Path,
    scheme: str,
    objective: str,
    boundary: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    profiles: tuple[dict[str, tuple[int, ...]], ...],
    plan_path: Path | None,
    output: Path | None,
    page: Path | None,
    compare: bool,
    as_json: bool,
) -> None:
    """Plan MODEL for a cluster and tell what to expect. Works offline: no device is asked.

    Of several profiles each is planned as if it were alone on the devices.
    """
    from flexpie import pipeline
    from flexpie.cli.plan_page import plan_page
    from flexpie.cli.plan_report import plan_summary, print_plan
    from flexpie.master.cluster_file import read_cluster_file

    wanted = profiles_of(shapes, profiles)
    _check_options(len(wanted), scheme, boundary, plan_path, output, page)
    given = None if plan_path is None else read_plan_text(plan_path)
    wanted_boundary = Boundary(boundary or Boundary.FLOAT32.value)
    cluster = read_cluster_file(cluster_path).cluster
    summaries: list[dict[str, Any]] = []
    for profile in wanted:
        imported = pipeline.import_file(model, profile)
        report = _report(imported, cluster, _Wanted(scheme, objective, wanted_boundary), given, compare)
        if output is not None:
            output.write_text(pipeline.write_plan(imported, cluster, report.result.plan), encoding="utf-8")
        if page is not None:
            page.write_text(plan_page(report), encoding="utf-8")
        if as_json:
            summaries.append(plan_summary(report))
        else:
            print_plan(report)
    if len(summaries) == 1:
        print_json(summaries[0])
    elif as_json:
        print_json({"model": summaries[0]["model"], "profiles": summaries})


@dataclass(frozen=True)
class _Wanted:
    """What is asked of a plan that is searched."""

    scheme: str
    objective: str
    boundary: Boundary


def _check_options(
    profiles: int, scheme: str, boundary: str | None, plan_path: Path | None, output: Path | None, page: Path | None
) -> None:
    if plan_path is not None and scheme != AUTO:
        raise click.UsageError("give either --scheme or --plan")
    if plan_path is not None and boundary is not None:
        raise click.UsageError("give either --boundary or --plan, whose file has a boundary")
    for name, path in (("--plan", plan_path), ("--output", output), ("--html", page)):
        if path is not None and profiles > 1:
            raise click.UsageError(f"{name} is for one plan, and each profile has its own; give one profile")


def _report(imported: ImportedModel, cluster: Cluster, wanted: _Wanted, given: str | None, compare: bool) -> Report:
    from flexpie import pipeline
    from flexpie.cli.plan_report import Report

    start = time.perf_counter()
    if given is None:
        result = pipeline.plan_model(imported, cluster, wanted.scheme, wanted.objective, boundary=wanted.boundary)
    else:
        result = pipeline.predict_plan(imported, cluster, pipeline.read_plan(given, imported, cluster))
    seconds = time.perf_counter() - start
    comparison, boundary = None, result.plan.boundary
    if compare:
        searched = given is None and wanted.scheme == AUTO and wanted.objective == Objective.LATENCY.value
        others = [] if searched else [pipeline.plan_model(imported, cluster, boundary=boundary).plan]
        comparison = pipeline.compare_plan(imported, cluster, result.plan, others)
    return Report(imported.graph.with_boundary(boundary), cluster, result, seconds, comparison)
