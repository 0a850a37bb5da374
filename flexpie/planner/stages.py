"""Pipelines of whole layers: each device computes a stretch of layers for one request while others compute theirs for
the next (DEFER).

A stage takes the exchange in front of it and its computing. The slowest stage bounds how often a request can be
answered, so the layers are divided to make it as fast as possible; among equally balanced ways the one with the least
sum, which is what one request takes, is chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flexpie.core.cluster import Cluster
from flexpie.core.footprint import Footprint
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.region import Region
from flexpie.core.scheme import single
from flexpie.planner.cost import Array, CostModel, LayerWork, layer_work

_MOST_SETS = 64
"""Sets of used devices up to which they are tried in every order; more devices follow the order of the cluster."""
_MOST_DEVICES = 8
"""In a pipeline: the fastest ones."""
_WIDER = 1.25
"""What the limit of the slowest stage is multiplied with while no way is found within it."""
_PROBES = (1.0, 1e3, 1e6)
"""Bytes of messages by which devices are told apart."""

Needs = Mapping[str, Region]
Used = int
"""The devices that have their stretch, as bits; in a fixed order the last of them is enough."""
Holders = tuple[int, ...]
"""The device that has each computed live tensor."""
_Key = tuple[Used, Holders]


def balanced_stages(graph: LayerGraph, cluster: Cluster, model: CostModel) -> tuple[Segment, ...]:
    """Stretches of layers on different devices whose slowest stage is as fast as can be.

    Exact: every cut is tried, and every order of devices where there are not too many (`_MOST_SETS`; at most
    `_MOST_DEVICES` are considered). Devices that do not help get nothing.
    """
    if not graph.layers:
        return ()
    devices = len(cluster.devices)
    pipeline = _Pipeline(_Stretches(graph, devices, model), model)
    shares = [tuple(float(index == device) for index in range(devices)) for device in range(devices)]
    return tuple(Segment(first, stop, single(device), shares[device]) for first, stop, device in pipeline.best())


class _Stretches:
    """What every stretch of layers takes on every device, and what it needs from others.

    Walks backwards from each cut. At the first cut where all that is live must be there whole, what is in front of it
    is a stretch of its own that ends there, so that its costs add up and no further step is needed.
    """

    def __init__(self, graph: LayerGraph, devices: int, model: CostModel) -> None:
        self.graph, self.devices = graph, devices
        layers = len(graph.layers)
        self._needs: dict[tuple[int, int], Needs] = {}
        self._clean = [0] * (layers + 1)
        """By stop: the cut where the walk ended."""
        works: dict[LayerWork, int] = {}
        steps: list[list[int]] = [[]]
        for stop in range(1, layers + 1):
            steps.append([works.setdefault(work, len(works)) for work in self._walk(stop)])
        asked = list(works)
        seconds = np.stack([model.compute_seconds(device, asked) for device in range(devices)], axis=1)
        least = seconds.min(axis=1, keepdims=True)
        self.rate = np.divide(least, seconds, out=np.ones_like(seconds), where=seconds > 0).max(axis=0)
        """How fast each device is at most, relative to a device as fast as the fastest for each work, [devices]."""
        self.equal = _equal_columns(seconds)
        """Whether two devices take the same for everything, [devices, devices]."""
        self.seconds = np.zeros((layers + 1, layers + 1, devices + 1))
        """[first, stop, device]; the last column is of a device as fast as the fastest for each work."""
        seconds = np.hstack((seconds, least))
        for stop in range(1, layers + 1):
            clean = self._clean[stop]
            self.seconds[clean:stop, stop] = np.cumsum(seconds[steps[stop]], axis=0)[::-1]
            self.seconds[:clean, stop] = self.seconds[:clean, clean] + self.seconds[clean, stop]

    def _walk(self, stop: int) -> Iterator[LayerWork]:
        graph = self.graph
        kept = {name for name in graph.live_after(stop) if name in graph.producer}
        footprint = Footprint(graph, {})
        for first in range(stop - 1, -1, -1):
            layer = graph.layers[first]
            footprint.wanted |= {name: graph.tensors[name].whole for name in layer.produced if name in kept}
            yield layer_work(graph, layer, footprint.extend(layer))
            self._needs[first, stop] = dict(footprint.wanted)
            self._clean[stop] = first
            computed = [name for name in graph.live_after(first) if name in graph.producer and name not in kept]
            if all(footprint.wanted.get(name) == graph.tensors[name].whole for name in computed):
                return

    def needs(self, first: int, stop: int) -> Needs:
        """The regions that a stretch needs of the tensors that are live in front of it."""
        if (first, stop) not in self._needs:
            clean = self._clean[stop]
            found = dict(self.needs(first, clean))
            for name, region in self.needs(clean, stop).items():
                if self.graph.producer.get(name, -1) < first:
                    found[name] = found[name].hull(region) if name in found else region
            self._needs[first, stop] = found
        return self._needs[first, stop]


@dataclass(frozen=True)
class _Stage:
    """The last stage of the best way to a state."""

    value: float
    before: _Key
    first: int
    device: int


@dataclass
class _Pipeline:
    """Dynamic programming over cuts, used devices and the holders of live tensors."""

    stretches: _Stretches
    model: CostModel
    states: list[dict[_Key, _Stage]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.graph, self.devices = self.stretches.graph, self.stretches.devices
        self.layers = len(self.graph.layers)
        self.live = [[name for name in self.graph.live_after(cut) if name in self.graph.producer]
                     for cut in range(self.layers + 1)]  # fmt: skip
        fastest = np.argsort(-self.stretches.rate, kind="stable")[:_MOST_DEVICES]
        self.chosen = sorted(int(device) for device in fastest)
        """The devices that may take part."""
        self._exchanges: dict[tuple[tuple[int, int, float], ...], float] = {}
        self.groups = self._alike()
        """Devices that can take one another's place."""
        self.any_order = math.prod(1 + len(group) for group in self.groups) <= _MOST_SETS

    def best(self) -> list[tuple[int, int, int]]:
        """First layer, stop and device of every stage."""
        seconds = self.stretches.seconds[0, -1, :-1]
        limit = 1 / np.sum(1 / seconds) if seconds.all() else 0.0
        longest = min(self._alone_seconds(device) for device in self.chosen)
        end = None
        while end is None:
            limit = min(longest, max(limit * _WIDER, longest / 1e3))
            end = self._run(limit, slowest=True)
        end = self._run(end[0], slowest=False)
        assert end is not None, "the way that was found takes no longer"
        return self._stages(end[1])

    def _run(self, limit: float, slowest: bool) -> tuple[float, _Key] | None:
        """The least slowest stage, or the least sum, of all ways without a stage (or the gathering of the outputs)
        that takes longer than `limit`, and where the best of them ends."""
        limit = limit * (1 + 1e-12)
        self.states = [{} for _ in range(self.layers + 1)]
        self.states[0][0, ()] = _Stage(0.0, (0, ()), -1, -1)
        for first in range(self.layers):
            onward = float(self.stretches.seconds[first, -1, -1])
            for key, state in self.states[first].items():
                if onward <= self._rate_left(key[0]) * limit:
                    for device in self._next_devices(key[0]):
                        self._extend(first, key, state.value, device, limit, slowest)
        ends = []
        for key, state in self.states[-1].items():
            gather = self._gather_seconds(key[1])
            if gather <= limit:
                ends.append((max(state.value, gather) if slowest else state.value + gather, key))
        return min(ends, default=None)

    def _extend(self, first: int, key: _Key, value: float, device: int, limit: float, slowest: bool) -> None:
        """Try every stage of a device behind a state."""
        used = 1 << device | (key[0] if self.any_order else 0)
        for stop in range(first + 1, self.layers + 1):
            if self.stretches.seconds[first, stop, device] > limit:
                return
            seconds = self._stage_seconds(key, first, stop, device)
            if seconds > limit:
                continue
            after = max(value, seconds) if slowest else value + seconds
            reached = (used, self._holders(key[1], first, stop, device))
            known = self.states[stop].get(reached)
            if known is None or after < known.value:
                self.states[stop][reached] = _Stage(after, key, first, device)

    def _free(self, used: Used) -> list[int]:
        """Devices that can still have a stretch."""
        if self.any_order:
            return [device for device in self.chosen if not used >> device & 1]
        return [device for device in self.chosen if device >= used.bit_length()]

    def _next_devices(self, used: Used) -> list[int]:
        """Those that are worth trying: of devices that are alike the first, where the order is free."""
        free = self._free(used)
        if not self.any_order:
            return free
        return [next(device for device in group if device in free) for group in self.groups if set(group) & set(free)]

    def _rate_left(self, used: Used) -> float:
        return math.fsum(self.stretches.rate[self._free(used)])

    def _holders(self, holders: Holders, first: int, stop: int, device: int) -> Holders:
        before = dict(zip(self.live[first], holders, strict=True))
        return tuple(before.get(name, device) for name in self.live[stop])

    def _stage_seconds(self, key: _Key, first: int, stop: int, device: int) -> float:
        """The exchange in front of a stage, and its computing."""
        holders = dict(zip(self.live[first], key[1], strict=True))
        needs = self.stretches.needs(first, stop)
        copies = tuple((holders.get(name, self.devices), device, self._nbytes(name, region, name in holders))
                       for name, region in needs.items())  # fmt: skip
        return self._exchange_seconds(copies) + float(self.stretches.seconds[first, stop, device])

    def _alone_seconds(self, device: int) -> float:
        """The slower of the only stage and the gathering, where one device has all layers."""
        stage = self._stage_seconds((0, ()), 0, self.layers, device)
        return max(stage, self._gather_seconds((device,) * len(self.live[-1])))

    def _gather_seconds(self, holders: Holders) -> float:
        return self._exchange_seconds(
            tuple(
                (holder, self.devices, self.graph.tensors[name].nbytes)
                for name, holder in zip(self.live[-1], holders, strict=True)
            )
        )

    def _exchange_seconds(self, copies: tuple[tuple[int, int, float], ...]) -> float:
        if copies not in self._exchanges:
            nbytes = np.zeros((self.devices + 1, self.devices + 1))
            for source, destination, amount in copies:
                nbytes[source, destination] += amount
            self._exchanges[copies] = float(self.model.exchange_seconds(nbytes))
        return self._exchanges[copies]

    def _nbytes(self, name: str, region: Region, between_devices: bool) -> int:
        return region.size * self.graph.sent_itemsize(name, between_devices=between_devices)

    def _stages(self, key: _Key) -> list[tuple[int, int, int]]:
        found, stop = [], self.layers
        while stop:
            stage = self.states[stop][key]
            found.append((stage.first, stop, stage.device))
            key, stop = stage.before, stage.first
        return found[::-1]

    def _alike(self) -> list[list[int]]:
        """Groups of devices that compute equally fast and that messages reach and leave equally fast."""
        seconds = self._message_seconds()
        groups: list[list[int]] = []
        for device in self.chosen:
            home = next((group for group in groups if self._interchangeable(group[0], device, seconds)), None)
            if home is None:
                groups.append([device])
            else:
                home.append(device)
        return groups

    def _message_seconds(self) -> Array:
        """Of one message of each size in `_PROBES` from each end to each other, [sizes, ends, ends]; the ends are
        the chosen devices and the master."""
        places = [*self.chosen, self.devices]
        seconds = np.zeros((len(_PROBES), len(places), len(places)))
        for source, destination in itertools.permutations(range(len(places)), 2):
            for number, nbytes in enumerate(_PROBES):
                copies = ((places[source], places[destination], nbytes),)
                seconds[number, source, destination] = self._exchange_seconds(copies)
        return seconds

    def _interchangeable(self, first: int, second: int, seconds: Array) -> bool:
        places = [self.chosen.index(device) for device in (first, second)]
        order = np.arange(len(self.chosen) + 1)
        order[places] = order[places[::-1]]
        swapped = seconds[:, order][:, :, order]
        return bool(self.stretches.equal[first, second]) and bool((swapped == seconds).all())


def _equal_columns(seconds: Array) -> npt.NDArray[np.bool_]:
    return np.asarray((seconds[:, :, None] == seconds[:, None, :]).all(axis=0), dtype=np.bool_)
