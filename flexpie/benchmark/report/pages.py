"""The pages of a report, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from flexpie.benchmark import paper
from flexpie.benchmark.cells import ALONE, OURS
from flexpie.benchmark.records import Header
from flexpie.benchmark.report.layers import SCHEMES, layer_milliseconds
from flexpie.benchmark.report.pictures import planning_seconds
from flexpie.benchmark.statistics import Estimate
from flexpie.benchmark.summary import CellResult, verdict
from flexpie.testbed.selftest import SelfTest

_HEADS = ("strategy", "median", "p90", "p99", "predicted", "speed-up", "segments", "devices", "processor", "launches")
NOTE = "Written by `flexpie bench report`; [METHODOLOGY.md](METHODOLOGY.md) says how it was measured."


def overview(
    header: Header, results: Sequence[CellResult], pictures: Sequence[tuple[str, str]],
    layers: Mapping[int, CellResult],
) -> str:  # fmt: skip
    """The first page. `pictures` are (title, path) of those that there are, `layers` cells by nodes (`layer_cell`)."""
    counted = [item for item in results if item.counts]
    busy = [item for item in results if item.cell.in_flight > 1]
    noisy = sum("noisy" in item.mark for item in results)
    simulated = sum(not item.measured for item in results)
    single = [item for item in results if item.cell.in_flight == 1]
    parts = [
        "# Benchmarks",
        f"{NOTE} Every cell is on the page [cells.md](cells.md).",
        f"FlexPie {header.flexpie} on {header.machine}; begun {header.begun}. {len(results)} cells: {len(counted)} "
        f"count, {noisy} were measured on a noisy machine, {simulated} are simulated.",
    ]
    if single:
        parts += [
            "## How much faster",
            "Medians of interleaved launches in ms, with 95 % intervals. *Speed-up* is over onnxruntime alone on the "
            "best device, *against the best* over the fastest other strategy that was executed through FlexPie, "
            "*efficiency* the speed-up over the sum of the devices' speeds relative to the best one.",
            _speed_ups(single),
            "\n".join(f"- {line}" for line in verdict(counted)),
        ]
    if busy:
        parts += ["## Requests in flight", _throughput(busy)]
    if any(item.planned for item in single):
        parts += [
            "## Planning",
            "Processor seconds of the search on one core, the median over cells.",
            _planning(single),
        ]
    for title, path in pictures:
        parts += [f"## {title}", f"![{title}]({path})"]
    parts += [_layers(nodes, item) for nodes, item in layers.items()]
    return "\n\n".join(filter(None, parts)) + "\n"


def cells(results: Sequence[CellResult]) -> str:
    """The page with every cell."""
    note = (
        f"{NOTE} Milliseconds; *median* is that of the launches' medians, with its 95 % interval; percentiles are over "
        "all requests; *processor* is the busiest device's time for one request."
    )
    parts = ["# Every cell", note]
    for item in results:
        parts += [f"## {item.cell}", *([f"*{item.mark}*"] if item.mark else []), _one_cell(item)]
        parts += [_self_test(item.check.found)] if item.check else []
        parts += [f"{name}: {reason}" for name, reason in item.failures.items() if name not in item.strategies]
    return "\n\n".join(parts) + "\n"


def timeline_section(item: CellResult, picture: str, file: str) -> str:
    """What the first page says of the timeline."""
    return (
        "\n## One inference over all devices\n\n"
        f"![Timeline]({picture})\n\n"
        f"Open [{file}]({file}) with <https://ui.perfetto.dev>. {item.cell}; traced on the workers, "
        f"{'on a noisy machine' if item.mark else 'on a quiet machine'}.\n"
    )


def _layers(nodes: int, item: CellResult) -> str:
    """The layers of the paper's figure 2: its milliseconds and ours."""
    ours = layer_milliseconds(item)
    rows = []
    for layer, published in paper.LAYERS[nodes].items():
        theirs = [f"{published[scheme]:.2f}" for scheme in SCHEMES]
        rows.append([f"L{layer}", *theirs, *(f"{ours[scheme][layer - 1]:.2f}" for scheme in SCHEMES)])
    heads = [f"{nodes} nodes", *(f"{where}, {scheme}" for where in ("the paper", "here") for scheme in SCHEMES)]
    how = f"Layers of MobileNet, ms; here: {item.cell.ground}{', ' if item.mark else ''}{item.mark}."
    return f"{how}\n\n{_table(heads, rows)}"


def _speed_ups(results: Sequence[CellResult]) -> str:
    rows = []
    for item in results:
        ground, best = item.cell.ground, item.best_baseline
        speed_up = item.speed_up
        speeds = sum(ground.cpu) / max(ground.cpu)
        against = None if best is None else item.times_faster(OURS, best)
        rows.append([
            item.cell.model,
            str(ground),
            _milliseconds(item.latency(ALONE)),
            _milliseconds(item.latency(OURS)),
            _times(speed_up),
            f"{_times(against)} ({best})" if best else "",
            _times(item.times_faster(OURS, "OutC")),
            "" if speed_up is None else f"{speed_up.value / speeds:.0%}",
            item.mark,
        ])  # fmt: skip
    heads = ["model", "testbed", "alone", "FlexPie", "speed-up", "against the best", "against OutC", "efficiency", ""]
    return _table(heads, rows)


def _throughput(results: Iterable[CellResult]) -> str:
    rows = []
    for item in results:
        ours, alone = item.throughput(OURS), item.throughput(ALONE)
        rows.append([
            item.cell.model,
            str(item.cell.ground),
            str(item.cell.in_flight),
            _number(alone, "{:.1f}"),
            _number(ours, "{:.1f}"),
            _times(item.speed_up),
            f"{item.percentile(OURS, 99) / item.percentile(OURS, 50):.2f}" if OURS in item.launches else "",
            item.mark,
        ])  # fmt: skip
    heads = ["model", "testbed", "in flight", "alone, requests/s", "FlexPie, requests/s", "ratio", "p99 ÷ p50", ""]
    return _table(heads, rows)


def _planning(results: Sequence[CellResult]) -> str:
    found = planning_seconds(results)
    rows = [
        [model, f"{seconds:.2f}", _number(paper.SEARCH_SECONDS.get(model), "{:g}")] for model, seconds in found.items()
    ]
    return _table(["model", "FlexPie, s", "the paper's planner, s"], rows) if rows else ""


def _one_cell(item: CellResult) -> str:
    rows = []
    for name in item.strategies:
        measured = name in item.launches
        predicted = item.planned.get(name)

        def percentile(percent: float, name: str = name, measured: bool = measured) -> str:
            return f"{item.percentile(name, percent) * 1e3:.1f}" if measured else ""

        rows.append([
            name,
            _milliseconds(item.latency(name)),
            percentile(90),
            percentile(99),
            f"{predicted.predicted_seconds * 1e3:.1f}" if predicted else "",
            _times(item.times_faster(name, ALONE)),
            str(predicted.segments) if predicted else "",
            str(predicted.devices) if predicted else "",
            _cpu(item, name),
            str(len(item.launches.get(name, []))),
        ])  # fmt: skip
    heads = [
        "strategy",
        "median",
        "p90",
        "p99",
        "predicted",
        "speed-up",
        "segments",
        "devices",
        "processor",
        "launches",
    ]
    return _table(heads, rows)


def _self_test(found: SelfTest) -> str:
    """What the machine was like before the cell was measured."""
    speeds = [device.measured / device.wanted for device in found.devices]
    links = [link.measured_bits_per_second / link.wanted_bits_per_second for link in found.links]
    parts = [f"other programs used {found.others_cores:.0%} of a core"]
    parts += [f"devices computed {min(speeds):.0%} to {max(speeds):.0%} of their shares"] if speeds else []
    parts += [f"links carried {min(links):.0%} to {max(links):.0%} of their bandwidth"] if links else []
    return f"Self-test: {', '.join(parts)}."


def _cpu(item: CellResult, name: str) -> str:
    made = [max(launch.cpu_seconds.values(), default=0.0) for launch in item.launches.get(name, [])]
    return f"{median(made) * 1e3:.1f}" if made else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ruler, *rows))


def _milliseconds(found: Estimate | None) -> str:
    return _interval(found, lambda value: f"{value * 1e3:.1f}")


def _times(found: Estimate | None) -> str:
    return _interval(found, lambda value: f"{value:.2f}", "×")


def _interval(found: Estimate | None, text: Callable[[float], str], unit: str = "") -> str:
    if found is None:
        return ""
    interval = "" if found.low == found.high else f" [{text(found.low)}–{text(found.high)}]"
    return f"{text(found.value)}{unit}{interval}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
