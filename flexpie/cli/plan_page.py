"""A plan as one HTML page that needs nothing else: figures, bars, and the picture of the model."""

from __future__ import annotations

from collections import Counter
from html import escape
from importlib import resources
from string import Template

from flexpie.cli.console import counted
from flexpie.cli.plan_picture import amount, plan_picture
from flexpie.cli.plan_report import Report, memory_of, milliseconds, sentences
from flexpie.core.scheme import SchemeKind
from flexpie.planner.comparison import Comparison, totals_of


def plan_page(report: Report) -> str:
    """The page, as text."""
    graph, plan = report.graph, report.result.plan
    devices = [plan.devices[index] for index in plan.participants]
    subtitle = (
        f"{counted(len(graph.layers), 'layer')} in {counted(len(plan.segments), 'segment')} on {', '.join(devices)}"
    )
    template = Template(resources.files("flexpie.cli").joinpath("plan_page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{graph.name} · FlexPie plan"),
        heading=escape(graph.name),
        subtitle=escape(subtitle),
        schemes="\n".join(
            f".s-{kind.value} {{ --stroke: var(--{kind.value}); --fill: var(--{kind.value}-fill); }}"
            for kind in SchemeKind
        ),
        figures="".join(f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
                        for name, value in _figures(report)),
        words="".join(f"<p>{escape(line)}</p>" for line in sentences(report)[2:]),
        devices=_device_bars(report),
        strategies="" if report.comparison is None else _strategy_bars(report, report.comparison),
        legend=_legend(report),
        picture=plan_picture(report),
    )  # fmt: skip


def _figures(report: Report) -> list[tuple[str, str]]:
    result = report.result
    seconds, alone = result.latency_seconds, result.single_device_seconds
    return [
        ("predicted per request", milliseconds(seconds)),
        ("best single device alone", milliseconds(alone)),
        ("faster than alone", f"{alone / seconds:.2f}×" if seconds > 0 else "–"),
        ("requests per second, many in flight", f"{result.occupation.requests_per_second:.3g}"),
        ("sent per request", amount(totals_of(report.graph, result.plan).nbytes)),
        ("multiply-adds divided", f"{report.work.split:.1%}"),
    ]


def _device_bars(report: Report) -> str:
    whole = report.result.simulation.latency
    rows = []
    for index in report.result.plan.participants:
        time = report.result.simulation.per_device(index)
        parts = {"computing": time.computing, "sending": time.sending, "waiting": time.waiting}
        title = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in parts.items())
        bars = "".join(f'<i class="{name}" style="width:{_percent(seconds, whole)}"></i>'
                       for name, seconds in parts.items())  # fmt: skip
        name = report.cluster.devices[index].name
        rows.append(_row("device", name, bars, milliseconds(time.computing), title))
    return "".join(rows)


def _strategy_bars(report: Report, comparison: Comparison) -> str:
    own = report.result.latency_seconds
    bars = [(own, "own", "this plan", "")]
    for rival in comparison.rivals:
        note = "" if rival.fits else memory_of(report.cluster, rival)
        bars.append((rival.latency_seconds, "rival" if rival.fits else "rival unfit", rival.name, note))
    longest = max(seconds for seconds, *_ in bars)
    rows = []
    for seconds, kind, name, note in sorted(bars, key=lambda bar: bar[0]):
        bar = f'<i style="width:{_percent(seconds, longest)}"></i>'
        rows.append(_row(kind, name, bar, milliseconds(seconds), name))
        rows.append(f'<p class="note">{escape(note)}</p>' if note else "")
    return f'<section class="card"><h2>Other strategies</h2>{"".join(rows)}</section>'


def _row(kind: str, name: str, bars: str, value: str, title: str) -> str:
    return (
        f'<div class="row {kind}" title="{escape(title, quote=True)}"><span class="name">{escape(name)}</span>'
        f'<span class="bar">{bars}</span><span class="value">{escape(value)}</span></div>'
    )


def _legend(report: Report) -> str:
    layers: Counter[str] = Counter()
    for segment in report.result.plan.segments:
        layers[segment.scheme.kind.value] += segment.stop - segment.first
    keys = [
        f'<li class="s-{kind}"><i style="background:var(--fill);border-color:var(--stroke)"></i>'
        f"{kind} ({counted(count, 'layer')})</li>"
        for kind, count in layers.most_common()
    ]
    keys += [f'<li><i style="background:var(--d{index % 8})"></i>{escape(report.cluster.devices[index].name)}</li>'
             for index in report.result.plan.participants]  # fmt: skip
    return "".join(keys)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole > 0 else "0%"
