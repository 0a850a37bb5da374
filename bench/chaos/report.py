"""The report of a run: JSON for programs, Markdown and a picture for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.chaos.records import ANSWERED, Afterwards, Event, Request
from bench.chaos.verdict import Verdict

COLOURS = {
    "kill -9": "#c0392b",
    "stop": "#e67e22",
    "link cut": "#8e44ad",
    "pair cut": "#2980b9",
    "one-way cut": "#16a085",
    "tenth of the bandwidth": "#f1c40f",
    "master kill -9": "#2c3e50",
    "clock jump": "#7f8c8d",
}
_LEAST_SECONDS = 0.15
"""Width of a fault that takes no time, so that it is seen."""


def write_report(
    folder: Path,
    command: str,
    verdict: Verdict,
    requests: Sequence[Request],
    events: Sequence[Event],
    afterwards: Afterwards | None,
    hosts: Sequence[str],
) -> None:
    """Write ``report.json``, ``report.md`` and ``timeline.svg``."""
    content = {
        "command": command,
        "passed": verdict.passed,
        "verdict": asdict(verdict),
        "events": [asdict(event) for event in events],
        "afterwards": asdict(afterwards) if afterwards else None,
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    (folder / "report.md").write_text(_markdown(command, verdict, events, afterwards))
    draw_timeline(folder / "timeline.svg", requests, events, hosts)


def _markdown(command: str, verdict: Verdict, events: Sequence[Event], afterwards: Afterwards | None) -> str:
    lines = ["# Chaos", "", f"`{command}`", "", f"**{'passed' if verdict.passed else 'FAILED'}**", ""]
    lines += [f"- {violation}" for violation in verdict.violations]
    lines += ["", *_table(("outcome", "requests"), verdict.outcomes.items()), ""]
    lines += [f"Answered requests took {verdict.median_seconds:.2f} s (median), {verdict.worst_seconds:.2f} s (worst)."]
    headings = ("fault", "count", "longest request it met, median", "worst", "requests that failed meanwhile")
    rows = [
        (felt.kind, felt.count, f"{felt.median_seconds:.2f} s", f"{felt.worst_seconds:.2f} s", felt.errors)
        for felt in verdict.felt
    ]
    lines += ["", *_table(headings, rows), ""]
    if afterwards is not None and afterwards.recovered_seconds is not None:
        lines += [
            f"All was well {afterwards.recovered_seconds:.1f} s after the end; {afterwards.right_answers} of "
            f"{afterwards.last_requests} last requests were answered rightly.",
            "",
        ]
    times = [(f"{event.began:.1f} s", f"{event.mended:.1f} s", event.text) for event in events]
    lines += ["![Faults and requests over time](timeline.svg)", "", *_table(("began", "mended", "fault"), times)]
    return "\n".join(lines) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(map(str, row))} |" for row in cells]


def draw_timeline(path: Path, requests: Sequence[Request], events: Sequence[Event], hosts: Sequence[str]) -> None:
    """Over time: how long each request took and how it ended, requests per second, and the faults of each host."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    end = max([*(item.ended for item in requests), *(event.mended for event in events), 1.0])
    figure, (times, rates, faults) = plt.subplots(
        3, 1, figsize=(max(10.0, end / 20), 7), sharex=True, layout="constrained", height_ratios=(3, 2, 2)
    )
    _draw_times(times, requests)
    right = [item.ended for item in requests if item.outcome == ANSWERED]
    rates.hist(right, bins=range(int(end) + 2), color="#27ae60")
    rates.set_ylabel("answers / s")
    _draw_faults(faults, events, hosts)
    faults.set(xlabel="seconds", xlim=(0, end))
    figure.savefig(path)
    plt.close(figure)


def _draw_times(axes: Any, requests: Sequence[Request]) -> None:
    outcomes = sorted({item.outcome for item in requests}, key=lambda outcome: outcome != ANSWERED)
    for outcome in outcomes:
        those = [item for item in requests if item.outcome == outcome]
        right = outcome == ANSWERED
        axes.scatter([item.started for item in those], [item.seconds for item in those], s=2 if right else 16,
                     marker="." if right else "x", color="#27ae60" if right else None, label=outcome.lower(),
                     rasterized=True)  # fmt: skip
    axes.set(yscale="log", ylabel="request, s")
    axes.legend(fontsize=7, ncols=4, loc="upper right")


def _draw_faults(axes: Any, events: Sequence[Event], hosts: Sequence[str]) -> None:
    for event in events:
        width = max(_LEAST_SECONDS, event.mended - event.began)
        for host in filter(None, (event.host, event.other)):
            axes.barh(hosts.index(host), width, left=event.began, color=COLOURS[event.kind], height=0.7)
    for kind in dict.fromkeys(event.kind for event in events):
        axes.barh(0, 0, color=COLOURS[kind], label=kind)
    axes.set_yticks(range(len(hosts)), hosts)
    axes.invert_yaxis()
    if events:
        axes.legend(fontsize=7, ncols=8, loc="upper center", bbox_to_anchor=(0.5, 1.25))
