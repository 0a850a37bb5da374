"""Measures layers inside segments: plans drawn at random, compiled as for a deployment, run in onnxruntime's profiler.

All segments of a device's program are run in turn, as in a deployment, so that each finds the caches as the others left
them. Every node is credited to its layer (`flexpie.compiler.attribution`), and what a device does for a layer is
described as the planner describes it.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flexpie.compiler import ImportedModel, Lowered, emit, lower
from flexpie.compiler.attribution import Owner, node_owners
from flexpie.compiler.kernels import KERNELS, LONG, NODES_PER_STEP, SHORT, kernel_model
from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.core.errors import FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.rates import REFERENCE_RATES, DeviceRates
from flexpie.core.scheme import GRID_2D, IN_H, IN_W, OUT_C, REPLICATED, Scheme, single
from flexpie.planner.cost import LayerWork, Work, layer_work
from flexpie.traces.kernels import computing_rates, scaled_rates
from flexpie.traces.samples import ComputeSample
from flexpie.traces.works import configuration_of, work_text
from flexpie.wire.tensors import NUMPY_DTYPES
from flexpie.worker.engine import OnnxRuntimeEngine, Port, ProfiledSession, Session

Array = npt.NDArray[np.float64]

LEAST_ROUNDS, MOST_ROUNDS = 6, 20
"""Runs of each segment that are timed: the more the shorter they are, since the clock of short nodes is coarse."""
LAUNCH_SECONDS = 0.2
"""What the timed runs of a launch may take together, if that does not mean too few of them. Launches differ more than
the runs of one do: time is better spent on many."""
QUIET_PART = 2
"""One of so many runs counts where a companion tells which were the least disturbed."""
WARM_ROUNDS = 2
"""Runs in front of them, of which the first one takes memory for the first time."""
_DRAWN = ((IN_H, 25), (IN_W, 15), (OUT_C, 25), (GRID_2D, 20), (REPLICATED, 5))
_SINGLE_WEIGHT = 10


@dataclass(frozen=True)
class ProfilerCost:
    """What onnxruntime's profiler adds to the time of a node that it measures."""

    node_seconds: float
    tensor_seconds: float
    """For each tensor that the node reads or writes."""

    def corrected(self, seconds: Array, tensors: Sequence[int]) -> Array:
        """Times without it, shape [runs, nodes] as given; of a node that does next to nothing a tenth is left."""
        added = self.node_seconds + self.tensor_seconds * np.array(tensors, dtype=np.float64)
        return np.maximum(seconds - added, seconds / 10)


def measure_profiler(rounds: int = 40) -> ProfilerCost:
    """Find out on this core: the same small nodes with and without the profiler."""
    (two, added_two), (four, added_four) = (_added(name, rounds) for name in ("node", "node_of_four"))
    per_tensor = max(0.0, (added_four - added_two) / (four - two))
    return ProfilerCost(max(0.0, added_two - two * per_tensor), per_tensor)


def _added(kernel: str, rounds: int) -> tuple[int, float]:
    """Tensors of a node of a kernel, and the seconds that the profiler adds to it."""
    engine = OnnxRuntimeEngine()
    sessions = [engine.load(kernel_model(kernel, steps).SerializeToString()) for steps in (SHORT, LONG)]
    feeds = [np.zeros([length or 1 for length in sessions[0].inputs[0].shape], np.float32)]
    times = np.array([[_seconds_of(session, feeds) for session in sessions] for _ in range(rounds)])
    short, long = np.median(times, axis=0)
    with tempfile.TemporaryDirectory(prefix="flexpie-") as folder:
        path = Path(folder) / kernel
        path.write_bytes(kernel_model(kernel, LONG).SerializeToString())
        profiled = engine.load_profiled(path, Path(folder))
        for _ in range(rounds):
            profiled.run(feeds)
        profile = profiled.finish()
    middle = len(profile.nodes) // 2
    nodes = (LONG - SHORT) * NODES_PER_STEP
    return profile.tensors[middle], float(np.median(profile.seconds[1:])) - float(long - short) / nodes


def _seconds_of(session: Session, feeds: Sequence[npt.NDArray[np.float32]]) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - start


class Companion:
    """The calibration kernels, a step of each, run beside what is measured: they tell how fast the device is just now.

    Other work comes and goes, on this machine or, behind virtual machines, on the other hardware thread of a core. It
    slows convolutions, element-wise operators and copies in unequal measure, as another device would.
    """

    def __init__(self, threads: int) -> None:
        engine = OnnxRuntimeEngine(threads)
        models = {name: kernel_model(name, 1).SerializeToString() for name in KERNELS}
        self._sessions = {name: engine.load(model) for name, model in models.items()}
        self._feeds = {
            name: [np.ones([length or 1 for length in session.inputs[0].shape], np.float32)]
            for name, session in self._sessions.items()
        }
        self.seconds: dict[str, list[float]] = {name: [] for name in KERNELS}
        """Of each kernel, since the last `reset`."""

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds = {name: [] for name in KERNELS}

    def run(self) -> None:
        """Every kernel once, with warm caches."""
        for name, session in self._sessions.items():
            if name != "dense":  # long enough to warm up by itself
                session.run(self._feeds[name])
            self.seconds[name].append(_seconds_of(session, self._feeds[name]))

    def quiet(self, count: int) -> list[int]:
        """The rounds (`run` is called before the first and after each) in which the device was fastest, ascending."""
        relative = np.mean([np.array(times) / np.median(times) for times in self.seconds.values()], axis=0)
        around = np.maximum(relative[:-1], relative[1:])
        return sorted(np.argsort(around, kind="stable")[:count].tolist())

    def typical(self, rounds: Sequence[int], cpu_share: float, period_seconds: float) -> dict[str, float]:
        """Seconds of each kernel around some rounds."""
        around = sorted({index + side for index in rounds for side in (0, 1)})
        return {
            name: expected_seconds(np.array(seconds)[around], cpu_share, period_seconds)[0]
            for name, seconds in self.seconds.items()
        }


@dataclass(frozen=True)
class MeasuredDevice:
    """The device that this process stands for."""

    name: str
    rates: DeviceRates
    profiler: ProfilerCost = ProfilerCost(0.0, 0.0)
    threads: int = 1
    cpu_share: float = 1.0
    """Of its cores; below 1 a quota stops it for the rest of each period."""
    period_seconds: float = 0.005
    """Of that quota."""
    throttled: AbstractContextManager[object] = dataclasses.field(default_factory=nullcontext)
    """Puts this process under the quota while it is entered: compiling need not be slow. Entered once a launch."""
    companion: Companion | None = None
    """Corrects `rates` for each launch."""
    companion_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What its kernels take when the device has its `rates`."""

    def rates_now(self, rounds: Sequence[int]) -> DeviceRates:
        """Its rates as they were in some rounds."""
        if self.companion is None:
            return self.rates
        found = self.companion.typical(rounds, self.cpu_share, self.period_seconds)
        return scaled_rates(self.rates, {name: self.companion_seconds[name] / found[name] for name in KERNELS})


def this_device(name: str, threads: int = 1, rounds: int = 30) -> MeasuredDevice:
    """This machine as a device: its rates, its companion, and what the profiler takes on it.

    Of `rounds` runs of each kernel the lower quartile counts: nothing makes a run faster than it is.
    """
    engine = OnnxRuntimeEngine(threads)
    chains = {
        kernel: [engine.load(kernel_model(kernel, steps).SerializeToString()) for steps in (SHORT, LONG)]
        for kernel in KERNELS
    }
    companion = Companion(threads)
    times: dict[str, list[list[float]]] = {kernel: [] for kernel in KERNELS}
    for _ in range(rounds):
        for kernel, sessions in chains.items():
            feeds = [np.ones([length or 1 for length in sessions[0].inputs[0].shape], np.float32)]
            times[kernel].append([_seconds_of(session, feeds) for session in sessions])
        companion.run()
    quartiles = {kernel: np.percentile(pairs, 25, axis=0) for kernel, pairs in times.items()}
    return MeasuredDevice(
        name,
        computing_rates({kernel: (short, long) for kernel, (short, long) in quartiles.items()}, REFERENCE_RATES),
        measure_profiler(),
        threads,
        companion=companion,
        companion_seconds={kernel: float(np.percentile(found, 25)) for kernel, found in companion.seconds.items()},
    )


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


@dataclass(frozen=True)
class Launch:
    """One plan of a model, on one of its devices."""

    name: str
    model: ImportedModel
    plan: Plan
    index: int
    """Of the device in the plan."""


def measure(launch: Launch, device: MeasuredDevice, rounds: int | None = None) -> list[ComputeSample]:
    """Samples of all that a launch's device does, run here.

    Segments that the engine refuses with random inputs are left out. Without `rounds`, there are as many as fit
    `LAUNCH_SECONDS`.
    """
    with tempfile.TemporaryDirectory(prefix="flexpie-", dir=_scratch()) as scratch:
        running = _load(launch, device.threads, Path(scratch))
        with device.throttled:
            running, rounds = _run(running, rounds, device.companion)
        quiet = list(range(rounds)) if device.companion is None else device.companion.quiet(rounds // QUIET_PART)
        rates = device.rates_now(quiet)
        return [sample for item in running for sample in _samples(item, device, rates, quiet)]


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
    """A segment of a launch."""

    launch: Launch
    spec: SubgraphSpec
    session: ProfiledSession
    feeds: list[npt.NDArray[np.generic]]


def _load(launch: Launch, threads: int, folder: Path) -> list[_Running]:
    lowered = _only(lower(launch.model.graph, launch.plan), launch.index)
    programs, blobs = emit(launch.model, lowered)
    program = programs[launch.index]
    if program is None:
        return []
    for name, blob in blobs.items():
        (folder / name).write_bytes(blob.open())
    engine = OnnxRuntimeEngine(threads)
    rng = np.random.default_rng(0)
    running = []
    for spec, subgraph in zip(lowered.subgraphs[launch.index], program.subgraphs, strict=True):
        session = engine.load_profiled(folder / subgraph.model.sha256, folder)
        running.append(_Running(launch, spec, session, [_random(port, rng) for port in session.inputs]))
    return running


def _random(port: Port, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    shape = [length or 1 for length in port.shape]
    dtype = NUMPY_DTYPES[port.dtype]
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape, np.float32).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)  # fits tokens and masks alike


def rounds_in(seconds: float) -> int:
    """How many runs of so many seconds are timed."""
    return max(LEAST_ROUNDS, min(MOST_ROUNDS, round(LAUNCH_SECONDS / max(seconds, 1e-6))))


def _run(running: list[_Running], rounds: int | None, companion: Companion | None) -> tuple[list[_Running], int]:
    """Run all in turn; returns those that work, and how often they were timed.

    Inputs are copied first: assembled ones are in the caches, too.
    """
    start = 0.0
    for _ in range(WARM_ROUNDS):
        start = time.perf_counter()
        running = [item for item in running if _works(item)]
    rounds = rounds or rounds_in(time.perf_counter() - start)
    if companion is not None:
        companion.reset()
        companion.run()
    for _ in range(rounds):
        for item in running:
            item.session.run([feed.copy() for feed in item.feeds])
        if companion is not None:
            companion.run()
    return running, rounds


def _works(item: _Running) -> bool:
    try:
        item.session.run(item.feeds)
    except FlexPieError:
        return False
    return True


def _samples(item: _Running, device: MeasuredDevice, rates: DeviceRates, rounds: list[int]) -> Iterator[ComputeSample]:
    graph = item.launch.model.graph
    profile = item.session.finish()
    owners = node_owners(graph, item.spec, item.session.optimised)
    if tuple(op_type for op_type, _ in owners) != profile.op_types:
        return  # a node has nodes of its own, or runs out of turn: nothing tells whose time this is
    seconds = device.profiler.corrected(profile.seconds[WARM_ROUNDS:][rounds], profile.tensors)
    taken: dict[Owner, list[tuple[float, Array]]] = {}
    for column, (_, owner) in zip(seconds.T, owners, strict=True):
        if owner is not None:
            taken.setdefault(owner, []).append(expected_seconds(column, device.cpu_share, device.period_seconds))
    scheme = _segment_of(graph, item.launch.plan, item.spec).scheme
    for owner, times in taken.items():
        if works := _works_of(graph, item.spec, owner):
            yield _sample(device, rates, item, scheme, owner, works, times)


def expected_seconds(seconds: Array, cpu_share: float, period_seconds: float) -> tuple[float, Array]:
    """What a node takes on a device on average, from single runs; and the same by run, for their spread.

    Of a whole core's runs the middle half counts. A quota lets a device run for its share of each period and stops it
    for the rest. A node that is short against that is rarely stopped, and then reads several times too long: the runs
    without a stop tell what it computes, and that over the share is what it takes on average. A node that is stopped
    nearly every time takes what it takes.
    """
    if cpu_share >= 1:
        return middle(seconds), seconds
    stop_seconds = (1 - cpu_share) * period_seconds
    free = seconds < seconds.min() + stop_seconds / 2
    enough = max(3, len(seconds) // 4)
    if free.sum() < enough or seconds.min() > cpu_share * period_seconds:
        return float(np.mean(seconds)), seconds
    typical = middle(seconds[free])
    return typical / cpu_share, np.where(free, seconds, typical) / cpu_share


def middle(seconds: Array) -> float:
    """The mean of the middle half: as robust as the median, and finer than the profiler's clock, which counts whole
    microseconds."""
    cut = min(-(-len(seconds) // 4), (len(seconds) - 1) // 2)
    return float(np.sort(seconds)[cut : len(seconds) - cut].mean())


def _sample(
    device: MeasuredDevice,
    rates: DeviceRates,
    item: _Running,
    scheme: Scheme,
    owner: Owner,
    works: LayerWork,
    times: Sequence[tuple[float, Array]],
) -> ComputeSample:
    text = work_text(works)
    by_run = np.sum([runs for _, runs in times], axis=0)
    low, high = np.percentile(by_run, (10, 90))
    return ComputeSample(
        configuration=configuration_of(_place(owner), text),
        device=device.name,
        cpu_share=device.cpu_share,
        threads=device.threads,
        rates=rates,
        launch=item.launch.name,
        model=item.launch.model.graph.name,
        scheme="Single" if scheme.device is not None else str(scheme),
        place=_place(owner),
        position=_position(item, owner),
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


def _position(item: _Running, owner: Owner) -> str:
    if owner.layer is None:
        return "first" if owner.enters else "last"
    layer = item.launch.model.graph.layers[owner.layer]
    first = any(name in layer.consumed for name, _ in item.spec.inputs)
    last = any(name in layer.produced for name, _ in item.spec.outputs)
    return "only" if first and last else "first" if first else "last" if last else "inner"


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
