"""Says in a sentence or two why a plan was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from flexpie.core.cluster import Cluster
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import SchemeKind

_DIVISION = {
    SchemeKind.IN_H: "cut by rows",
    SchemeKind.IN_W: "cut by columns",
    SchemeKind.OUT_C: "cut by output channels",
    SchemeKind.GRID_2D: "cut into a grid",
    SchemeKind.BATCH: "cut along the batch",
    SchemeKind.REPLICATED: "computed by every device",
    SchemeKind.DATA_PARALLEL: "computed by the device whose turn it is",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def reason_for(
    cluster: Cluster, plan: Plan, seconds: float, single_device: Plan, single_device_seconds: float, priced: bool
) -> str:
    """Why this plan, compared with the best single device; both with their predicted latencies."""
    alone = cluster.devices[single_device.participants[0]].name if single_device.participants else "one device"
    memory = memory_remark(priced)
    active = plan.participants
    if len(active) <= 1:
        name = cluster.devices[active[0]].name if active else alone
        others = len(cluster.devices) - 1
        if others == 0:
            return f"There is only one device, {name}." + memory
        return (
            f"One device is simply better: {name} alone is predicted to take {milliseconds(seconds)}, "
            f"and no division over more devices is predicted to be faster." + memory
        )
    ratio = single_device_seconds / seconds if seconds > 0 else 1.0
    count = _NUMBERS[len(active)] if len(active) < len(_NUMBERS) else str(len(active))
    faster = f"{ratio:.2f}x faster than" if ratio >= 1 else f"{1 / ratio:.2f}x slower than"
    return (
        f"{count.capitalize()} devices are predicted to be {faster} the best single device ({alone}: "
        f"{milliseconds(seconds)} instead of {milliseconds(single_device_seconds)}); "
        f"{_divisions(cluster, plan.segments)}." + memory
    )


def memory_remark(priced: bool) -> str:
    """What is said of a plan where the fastest one does not fit."""
    return " The fastest plan does not fit the devices' memory; this one does." if priced else ""


def _divisions(cluster: Cluster, segments: Sequence[Segment]) -> str:
    """How the layers are divided, from first to last; neighbours of one kind together."""
    runs: list[tuple[str, int, int]] = []
    for segment in segments:
        kind = segment.scheme.kind
        name = _DIVISION.get(kind) or f"left to {cluster.devices[segment.scheme.device or 0].name}"
        layers = segment.stop - segment.first
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + layers, runs[-1][2] + 1)
        else:
            runs.append((name, layers, 1))
    texts = []
    for at, (name, layers, pieces) in enumerate(runs[:4]):
        which = "the first" if at == 0 else "the next"
        amount = "layer is" if layers == 1 else f"{layers} layers are"
        texts.append(f"{which} {amount} {name}" + (f" (in {pieces} segments)" if pieces > 1 else ""))
    if len(runs) > 4:
        texts.append(f"and so on in {len(segments)} segments")
    return ", ".join(texts)


def milliseconds(seconds: float) -> str:
    """A time as users read it."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
