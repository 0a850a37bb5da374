"""Measurement programs: the same steps again and again, as ordinary programs that any worker runs.

A worker tells nothing about time, but its program can tell the master how far it is: after a batch of rounds it sends
an empty message, a *mark*. Between two marks of a device lie the rounds of one batch, and the sending of one mark.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flexpie.core.program import (
    MASTER,
    Assemble,
    BlobRef,
    DeviceProgram,
    Feed,
    Part,
    Receive,
    Run,
    Send,
    Step,
    SubgraphRef,
    Value,
)
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType

Ways = Mapping[tuple[int, int], Sequence[int]]
"""The devices that a message passes, by source and destination; see `flexpie.core.routes.all_ways`."""


WORK = "/work"
"""Behind the label of a cycle: its work alone."""


@dataclass(frozen=True)
class Work:
    """A compiled subgraph with one input and one output, to be run again and again."""

    subgraph: SubgraphRef
    input: Value
    output: Value

    @property
    def blobs(self) -> tuple[BlobRef, ...]:
        """What a worker needs for it."""
        return (self.subgraph.model, *self.subgraph.weights)


@dataclass(frozen=True, slots=True)
class Message:
    """Bytes that one device sends to another, or to itself."""

    source: int
    destination: int
    nbytes: int
    """At least 1."""


Exchange = tuple[Message, ...]
"""Messages that are under way together. A device sends its own before it waits for those of others."""


@dataclass(frozen=True)
class Cycle:
    """What is timed: a round is `exchanges`, one after another, and `work` on every device in front of each."""

    label: str
    exchanges: tuple[Exchange, ...]
    rounds: int
    """In a batch."""
    batches: int
    """How often a batch of `work` alone and a batch of rounds are run in turn."""
    observers: tuple[int, ...]
    """Indices of the devices that send marks: one in each group of devices that exchange messages."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What lies between a mark and the one before that the same device sent."""

    number: int
    """Of the message, as the master receives it."""
    device: int
    label: str
    """Empty where nothing is timed."""
    rounds: int


@dataclass(frozen=True)
class Measurement:
    """Programs to run once, and the marks that they send."""

    programs: tuple[DeviceProgram | None, ...]
    """One per device of the cluster; None for a device that takes no part."""
    master: DeviceProgram
    marks: tuple[Mark, ...]

    def durations(self, arrivals: Mapping[tuple[int, int], float]) -> Mapping[tuple[int, str], list[float]]:
        """Seconds per round of each timed batch, by device and label.

        `arrivals` are times at which messages reached the master, by number and device.
        """
        before: dict[int, float] = {}
        found: dict[tuple[int, str], list[float]] = {}
        for mark in self.marks:
            at = arrivals[mark.number, mark.device]
            if mark.label:
                found.setdefault((mark.device, mark.label), []).append((at - before[mark.device]) / mark.rounds)
            before[mark.device] = at
        return found


def exchange_seconds(durations: Mapping[tuple[int, str], Sequence[float]], cycle: Cycle, observer: int) -> list[float]:
    """Seconds of the exchanges of one round, of each batch: how much longer than its work a round is."""
    rounds, works = durations[observer, cycle.label], durations[observer, cycle.label + WORK]
    return [of_round - of_work for of_round, of_work in zip(rounds, works, strict=True)]


# --------------------------------------------------------------------------------------------- measurements


def computing(works: Mapping[int, Mapping[str, tuple[Work, int]]], devices: int, batches: int) -> Measurement:
    """Each device runs each of its works in some batches of so many rounds; devices do not wait for one another.

    `works` are by index of the device, out of `devices`, and label, with the rounds of a batch.
    """
    writer = _Writer(works, devices)
    for device, own in works.items():
        fed = {label: writer.feed(device, work.input) for label, (work, _) in own.items()}
        writer.start(device)
        runs = {label: writer.run_of(device, work, fed[label]) for label, (work, _) in own.items()}
        for _ in range(batches):
            for label, (_, rounds) in own.items():
                writer.steps[device].append(runs[label])  # with caches and memory as the rounds will have them
                writer.mark(device)
                writer.steps[device] += [runs[label]] * rounds
                writer.mark(device, label, rounds)
    return writer.finish()


def exchanging(cycles: Sequence[Cycle], works: Mapping[int, Work], devices: int, ways: Ways) -> Measurement:
    """The devices run cycles one after another.

    For a cycle called x, ``x`` is the time of a round, and ``x/work`` (`WORK`) that of as much work without exchanges:
    what lies between is the cost of the exchanges, and of work that begins after a wait.

    Parameters
    ----------
    works: what each device that takes part runs in front of an exchange, by index.
    ways: the devices between two others relay.
    """
    writer = _Writer(works, devices)
    largest = max(
        (message.nbytes for cycle in cycles for exchange in cycle.exchanges for message in exchange), default=1
    )
    buffers = {device: writer.feed(device, _bytes("sent", 0, largest)) for device in works}
    inputs = {device: writer.feed(device, work.input) for device, work in works.items()}
    for device in works:
        writer.start(device)
    player = _Player(writer, ways, buffers, {d: writer.run_of(d, work, inputs[d]) for d, work in works.items()})
    for cycle in cycles:
        for _ in range(cycle.batches):
            player.synchronize()
            writer.marks(cycle.observers)
            player.work(cycle.rounds * len(cycle.exchanges))
            writer.marks(cycle.observers, f"{cycle.label}{WORK}", cycle.rounds)
            player.synchronize()
            writer.marks(cycle.observers)
            player.play(cycle)
            writer.marks(cycle.observers, cycle.label, cycle.rounds)
    return writer.finish()


def streaming(devices: Sequence[int], count: int, messages: int, batches: int) -> Measurement:
    """Each of the `devices`, out of `count`, sends empty messages to the master, as fast as it can: label ``send``."""
    writer = _Writer(devices, count)
    for device in devices:
        writer.start(device)
        for _ in range(batches):
            writer.mark(device)
            for _ in range(messages - 1):
                writer.send(device, MASTER, ())
            writer.mark(device, "send", messages)
    return writer.finish()


# ------------------------------------------------------------------------------------------------- writing


class _Writer:
    """The programs of some devices and of the master while they are being written."""

    def __init__(self, devices: Iterable[int], count: int) -> None:
        """`devices` take part, out of `count`."""
        self.steps: dict[int, list[Step]] = {device: [] for device in (*devices, MASTER)}
        self._values: dict[int, list[Value]] = {device: [] for device in self.steps}
        self._subgraphs: dict[int, list[SubgraphRef]] = {device: [] for device in self.steps}
        self._fed: dict[int, list[tuple[int, int]]] = {device: [] for device in self.steps}
        """The master's and the device's index of each value that the device is fed."""
        self._count = count
        self._marks: list[Mark] = []
        self._numbers = itertools.count()

    def value(self, device: int, value: Value) -> int:
        """A new entry of a device's value table."""
        self._values[device].append(value)
        return len(self._values[device]) - 1

    def feed(self, device: int, value: Value) -> int:
        """A value that the device gets from the master when it starts."""
        value = dataclasses.replace(
            value, tensor=f"{value.tensor} {device}.{len(self._fed[device])}"
        )  # a name for each
        own = self.value(device, value)
        self._fed[device].append((self.value(MASTER, value), own))
        return own

    def start(self, device: int) -> None:
        """Begin the device's program with what it is fed."""
        masters = [index for index, _ in self._fed[device]]
        self.steps[MASTER] += [Feed(index) for index in masters]
        parts = tuple(Part(index, self._values[MASTER][index].region) for index in masters)
        number = self.send(MASTER, device, parts)
        self.receive(device, number, MASTER, tuple(index for _, index in self._fed[device]))

    def run_of(self, device: int, work: Work, fed: int) -> Run:
        """The step that runs a work on a value that was fed."""
        self._subgraphs[device].append(work.subgraph)
        return Run(len(self._subgraphs[device]) - 1, (fed,), (self.value(device, work.output),))

    def send(self, device: int, destination: int, parts: tuple[Part, ...]) -> int:
        """Send a message; returns its number."""
        number = next(self._numbers)
        self.steps[device].append(Send(number, destination, parts))
        return number

    def receive(self, device: int, number: int, source: int, values: tuple[int, ...]) -> None:
        """Wait for a message."""
        self.steps[device].append(Receive(number, source, values))

    def mark(self, device: int, label: str = "", rounds: int = 1) -> None:
        """Tell the master that the device is here, and what lies behind it."""
        self._marks.append(Mark(self.send(device, MASTER, ()), device, label, rounds))

    def marks(self, devices: Sequence[int], label: str = "", rounds: int = 1) -> None:
        """A mark of each of some devices."""
        for device in devices:
            self.mark(device, label, rounds)

    def finish(self) -> Measurement:
        """The programs; the master's waits for every mark."""
        for mark in self._marks:
            self.receive(MASTER, mark.number, mark.device, ())
        programs = [self._program(device) if device in self.steps else None for device in range(self._count)]
        return Measurement(tuple(programs), self._program(MASTER), tuple(self._marks))

    def _program(self, device: int) -> DeviceProgram:
        return DeviceProgram(
            device, tuple(self._values[device]), tuple(self.steps[device]), (), tuple(self._subgraphs[device])
        )


@dataclass
class _Player:
    """Writes exchanges and the work in front of them."""

    writer: _Writer
    ways: Ways
    buffers: Mapping[int, int]
    """By device: the value that its messages are cut from."""
    runs: Mapping[int, Run]
    """By device: its work."""
    values: dict[tuple[int, Value], int] = field(default_factory=dict)
    """By device: the values that take what arrives there, each used again in every round."""

    def work(self, rounds: int) -> None:
        """Have every device do its work so many times."""
        for device, run in self.runs.items():
            self.writer.steps[device] += [run] * rounds

    def synchronize(self) -> None:
        """Have every device wait for every other one."""
        pairs = itertools.permutations(self.runs, 2)
        self.exchange(tuple(Message(source, destination, 1) for source, destination in pairs))

    def play(self, cycle: Cycle) -> None:
        """Have the devices go through the rounds of a batch."""
        for _ in range(cycle.rounds):
            for exchange in cycle.exchanges:
                self.work(1)
                self.exchange(exchange)

    def exchange(self, exchange: Exchange) -> None:
        """Move messages hop by hop; every device then puts together what it got, as between two segments."""
        got: dict[int, list[Value]] = {}
        moving = []
        for message in exchange:
            hops = self._hops(message)
            part = Part(self.buffers[message.source], Region.whole((message.nbytes,)))
            moving.append((message.nbytes, hops, self.writer.send(*hops[0], (part,))))
        while moving:
            further = []
            for nbytes, ((source, here), *hops), number in moving:
                before = sum(value.nbytes for value in got.get(here, ()))
                value = _bytes("relayed", 0, nbytes) if hops else _bytes("received", before, nbytes)
                index = self._index(here, value)
                self.writer.receive(here, number, source, (index,))
                if hops:
                    further.append((nbytes, hops, self.writer.send(*hops[0], (Part(index, value.region),))))
                else:
                    got.setdefault(here, []).append(value)
            moving = further
        for device, values in got.items():
            target = self._index(device, _bytes("assembled", 0, sum(value.nbytes for value in values)))
            parts = tuple(Part(self._index(device, value), value.region) for value in values)
            self.writer.steps[device].append(Assemble(target, parts))

    def _hops(self, message: Message) -> list[tuple[int, int]]:
        source, destination = message.source, message.destination
        stops = (source, destination) if source == destination else self.ways[source, destination]
        return list(itertools.pairwise(stops))

    def _index(self, device: int, value: Value) -> int:
        if (device, value) not in self.values:
            self.values[device, value] = self.writer.value(device, value)
        return self.values[device, value]


def _bytes(tensor: str, start: int, length: int) -> Value:
    """Bytes of a made-up tensor, from `start` on."""
    return Value(tensor, Region.of((start, start + length)), ElementType.UINT8)
