"""Measures layers inside segments: plans drawn at random, compiled as for a deployment, run in onnxruntime's profiler.

All segments of a device's program are run in turn, as in a deployment, so that each finds the caches as the others left
them. Every node is credited to its layer (`flexpie.compiler.attribution`), and what a device does for a layer is
described as the planner describes it.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flexpie.compiler import ImportedModel, Lowered, emit, lower
from flexpie.compiler.attribution import Owner, node_owners
from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.core.errors import FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.rates import DeviceRates
from flexpie.core.scheme import GRID_2D, IN_H, IN_W, OUT_C, REPLICATED, Scheme, single
from flexpie.planner.cost import LayerWork, Work, layer_work
from flexpie.traces.samples import ComputeSample
from flexpie.traces.works import configuration_of, work_text
from flexpie.wire.tensors import NUMPY_DTYPES
from flexpie.worker.engine import OnnxRuntimeEngine, Port, ProfiledSession

Array = npt.NDArray[np.float64]

ROUNDS = 10
"""Runs of each segment that are timed."""
WARM_ROUNDS = 2
_DRAWN = ((IN_H, 25), (IN_W, 15), (OUT_C, 25), (GRID_2D, 20), (REPLICATED, 5))
_SINGLE_WEIGHT = 10


@dataclass(frozen=True)
class MeasuredDevice:
    """The device that this process stands for."""

    name: str
    rates: DeviceRates
    threads: int = 1
    cpu_share: float = 1.0
    """Of its cores; below 1 a quota stops it for the rest of each period."""
    period_seconds: float = 0.005
    """Of that quota."""
    throttled: AbstractContextManager[object] = dataclasses.field(default_factory=nullcontext)
    """Puts this process under the quota while it is entered: compiling need not be slow. Entered once a launch."""


def draw_plan(graph: LayerGraph, rng: random.Random) -> Plan:
    """A plan with segments of 1 to 12 layers, each in a scheme and with shares of its own, over 2 to 6 devices."""
    devices = rng.randint(2, 6)
    segments = []
    stop = 0
    while stop < len(graph.layers):
        first, stop = stop, min(len(graph.layers), stop + rng.randint(1, 12))
        segments.append(Segment(first, stop, _draw_scheme(devices, rng), _draw_shares(devices, rng)))
    return Plan(graph.signature, tuple(f"device{index}" for index in range(devices)), tuple(segments))


def _draw_scheme(devices: int, rng: random.Random) -> Scheme:
    choices = [*_DRAWN, (single(rng.randrange(devices)), _SINGLE_WEIGHT)]
    return rng.choices([scheme for scheme, _ in choices], [weight for _, weight in choices])[0]


def _draw_shares(devices: int, rng: random.Random) -> tuple[float, ...]:
    if rng.random() < 0.4:
        return (1.0,) * devices
    return tuple(round(rng.uniform(0.3, 3.0), 1) for _ in range(devices))


def measure_plan(
    model: ImportedModel, plan: Plan, index: int, device: MeasuredDevice, launch: str, rounds: int = ROUNDS
) -> list[ComputeSample]:
    """Samples of all that the device with this index does in a plan, run here.

    Segments that the engine refuses with random inputs are left out.
    """
    lowered = _only(lower(model.graph, plan), index)
    if lowered.programs[index] is None:
        return []
    with tempfile.TemporaryDirectory(prefix="flexpie-", dir=_scratch()) as scratch:
        running = _load(model, lowered, index, device, Path(scratch))
        with device.throttled:
            running = _run(running, rounds)
        return [sample for item in running for sample in _samples(model.graph, plan, item, device, launch)]


def _only(lowered: Lowered, index: int) -> Lowered:
    """The program of one device: nobody needs the weights of the others."""
    return dataclasses.replace(
        lowered,
        programs=tuple(program if at == index else None for at, program in enumerate(lowered.programs)),
        subgraphs=tuple(specs if at == index else () for at, specs in enumerate(lowered.subgraphs)),
    )


def _scratch() -> str | None:
    """In memory where there is such a place: weights are written and read once."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True)
class _Running:
    spec: SubgraphSpec
    session: ProfiledSession
    feeds: list[npt.NDArray[np.generic]]


def _load(model: ImportedModel, lowered: Lowered, index: int, device: MeasuredDevice, folder: Path) -> list[_Running]:
    programs, blobs = emit(model, lowered)
    program = programs[index]
    assert program is not None
    for name, blob in blobs.items():
        (folder / name).write_bytes(blob.open())
    engine = OnnxRuntimeEngine(device.threads)
    rng = np.random.default_rng(0)
    running = []
    for spec, subgraph in zip(lowered.subgraphs[index], program.subgraphs, strict=True):
        session = engine.load_profiled(folder / subgraph.model.sha256, folder)
        running.append(_Running(spec, session, [_random(port, rng) for port in session.inputs]))
    return running


def _random(port: Port, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    shape = [length or 1 for length in port.shape]
    dtype = NUMPY_DTYPES[port.dtype]
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape, np.float32).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)  # fits tokens and masks alike


def _run(running: list[_Running], rounds: int) -> list[_Running]:
    """Run all in turn; returns those that work."""
    for _ in range(WARM_ROUNDS):
        running = [item for item in running if _works(item)]
    for _ in range(rounds):
        for item in running:
            item.session.run(item.feeds)
    return running


def _works(item: _Running) -> bool:
    try:
        item.session.run(item.feeds)
    except FlexPieError:
        return False
    return True


def _samples(
    graph: LayerGraph, plan: Plan, item: _Running, device: MeasuredDevice, launch: str
) -> Iterator[ComputeSample]:
    profile = item.session.finish()
    owners = node_owners(graph, item.spec, item.session.optimised)
    if tuple(op_type for op_type, _ in owners) != profile.op_types:
        return  # a node has nodes of its own, or runs out of turn: nothing tells whose time this is
    taken: dict[Owner, list[Array]] = {}
    for column, (_, owner) in zip(profile.seconds[WARM_ROUNDS:].T, owners, strict=True):
        if owner is not None:
            taken.setdefault(owner, []).append(column)
    segment = _segment_of(graph, plan, item.spec)
    for owner, columns in taken.items():
        works = _works_of(graph, item.spec, owner)
        if works:
            times = [expected_seconds(column, device.cpu_share, device.period_seconds) for column in columns]
            yield _sample(device, launch, graph.name, segment.scheme, _place(owner), works, times)


def expected_seconds(seconds: Array, cpu_share: float, period_seconds: float) -> tuple[float, Array]:
    """What a node takes on a device on average, from single runs; and the same by run, for their spread.

    A quota lets a device run for its share of each period and stops it for the rest. A node that is short against that
    is rarely stopped, and then reads several times too long: the runs without a stop tell what it computes, and that
    over the share is what it takes on average. A node that is stopped nearly every time takes what it takes.
    """
    if cpu_share >= 1:
        return float(np.median(seconds)), seconds
    stop_seconds = (1 - cpu_share) * period_seconds
    free = seconds < seconds.min() + stop_seconds / 2
    enough = max(3, len(seconds) // 4)
    if free.sum() < enough or seconds.min() > cpu_share * period_seconds:
        return float(np.mean(seconds)), seconds
    typical = float(np.median(seconds[free]))
    return typical / cpu_share, np.where(free, seconds, typical) / cpu_share


def _sample(
    device: MeasuredDevice,
    launch: str,
    model: str,
    scheme: Scheme,
    place: str,
    works: LayerWork,
    times: Sequence[tuple[float, Array]],
) -> ComputeSample:
    text = work_text(works)
    by_run = np.sum([runs for _, runs in times], axis=0)
    low, high = np.percentile(by_run, (10, 90))
    return ComputeSample(
        configuration=configuration_of(place, text),
        device=device.name,
        cpu_share=device.cpu_share,
        threads=device.threads,
        rates=device.rates,
        launch=launch,
        model=model,
        scheme="Single" if scheme.device is not None else str(scheme),
        place=place,
        op_type=works[0].op_type,
        work=text,
        seconds=sum(typical for typical, _ in times),
        seconds_p10=float(low),
        seconds_p90=float(high),
        repeats=len(by_run),
    )


def _segment_of(graph: LayerGraph, plan: Plan, spec: SubgraphSpec) -> Segment:
    layer = graph.producer[next(name for name in spec.parts[0].operator.outputs if name)]
    return next(segment for segment in plan.segments if segment.first <= layer < segment.stop)


def _place(owner: Owner) -> str:
    return "layer" if owner.layer is not None else "enter" if owner.enters is not None else "leave"


def _works_of(graph: LayerGraph, spec: SubgraphSpec, owner: Owner) -> LayerWork:
    if owner.layer is not None:
        layer = graph.layers[owner.layer]
        parts = {part.operator.name: part for part in spec.parts}
        own = [parts[operator.name] for operator in reversed(layer.operators) if operator.name in parts]
        return layer_work(graph, layer, own)
    name = owner.enters or owner.leaves or ""
    region = dict(spec.inputs if owner.enters else spec.outputs)[name]
    kind = graph.tensors[name]
    nbytes = region.size * kind.itemsize
    op_type = "ReorderInput" if owner.enters else "ReorderOutput"
    return (Work(op_type, 0, nbytes, nbytes, 0, (region.shape,), (region.shape,), dtype=kind.dtype.value),)
