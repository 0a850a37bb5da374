"""The cost table: everything that the search needs to know, as arrays of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.planner.candidates import Candidate
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.growth import Grown, Growth
from flexpie.planner.layouts import NOTHING, Indices, TensorKind


@dataclass(frozen=True)
class Cut:
    """The place in front of a layer, with the T tensors that are live there and the N segments that begin there.

    K candidates say how a segment that ends here divides its results.
    """

    tensors: tuple[int, ...]
    """Number of each live tensor; the same number at every cut that it crosses."""
    kinds: tuple[int, ...]
    """Number of each live tensor's kind."""
    producers: tuple[int, ...]
    """Layer that yields each live tensor; -1 for the model's inputs."""
    main: int
    """Position of a live tensor that the layer in front yields, so that every segment that ends here has produced
    it; -1 where there is none."""
    candidates: tuple[int, ...]
    """Indices into the table's candidates, [K]."""
    holdings: Indices
    """Holding of each live tensor when a segment that ends here with a candidate has produced it, [K, T]; those of
    the model's inputs at the first cut."""
    stop: Indices
    """Cut where each segment ends, [N]."""
    choice: Indices
    """Candidate of each segment as a position in the candidates of the cut where it ends, [N]."""
    compute_seconds: Array
    """Per segment and device, [N, devices]."""
    weight_bytes: Array
    """Per segment and device, [N, devices]."""
    relief_seconds: Array
    """How much less the compute time of each segment counts in lower bounds, [N]; see `Growth`."""
    needs: Indices
    """Layout in which each segment needs each live tensor, [N, T]; `NOTHING` where it does not read it."""


@dataclass(frozen=True)
class CostTable:
    """Costs of every segment and exchange of a graph on a cluster, each device starting when the last is ready."""

    cuts: tuple[Cut, ...]
    """One in front of every layer, and the last one behind all."""
    candidates: tuple[Candidate, ...]
    kinds: tuple[TensorKind, ...]
    gather: Indices
    """Layout in which the master needs each tensor that is live at the last cut."""
    model: CostModel
    growth: Growth
    """What the table was made from; the search does not look at it."""
    grown: Sequence[Sequence[Grown]]
    weights_onward: Array
    """Bytes of weights that the layers behind each cut need together, when each is computed once, [cuts]."""
    complete: bool
    """Whether no segment is missing that could be part of a best plan, but for those that `relief_seconds` hint at."""

    def alone_seconds(self, cut: int, slot: int, holdings: Indices, needs: Indices) -> Array:
        """Seconds of exchanges of one live tensor alone, [len(holdings), len(needs)]; needs may be `NOTHING`."""
        kind = self.kinds[self.cuts[cut].kinds[slot]]
        unique_holdings, rows = np.unique(holdings, return_inverse=True)
        unique_needs, columns = np.unique(needs, return_inverse=True)
        seconds = np.zeros((len(unique_holdings), len(unique_needs)))
        real = unique_needs != NOTHING
        if real.any() and len(unique_holdings):
            seconds[:, real] = kind.exchange_seconds(self.model, unique_holdings, unique_needs[real])
        result: Array = seconds[rows[:, None], columns[None, :]]
        return result

    def joint_seconds(self, cut: int, holdings: Indices, needs: Indices) -> Array:
        """Seconds of exchanges of all live tensors at once; holdings and needs have shape [questions, T]."""
        nbytes: Array | float = 0.0
        for slot, number in enumerate(self.cuts[cut].kinds):
            kind = self.kinds[number]
            asked = np.nonzero(needs[:, slot] != NOTHING)[0]
            if len(asked):
                added = np.zeros((len(needs), kind.ends, kind.ends))
                added[asked] = kind.nbytes(holdings[asked, slot], needs[asked, slot])
                nbytes = nbytes + added
        if isinstance(nbytes, float):
            return np.zeros(len(needs))
        return self.model.exchange_seconds(nbytes)

    def segment(self, first: int, row: int) -> Segment:
        """A segment that begins at a cut."""
        cut = self.cuts[first]
        stop = int(cut.stop[row])
        scheme, shares = self.candidates[self.cuts[stop].candidates[int(cut.choice[row])]]
        return Segment(first, stop, scheme, shares)


def cost_table(
    graph: LayerGraph,
    devices: int,
    candidates: Sequence[Candidate],
    model: CostModel,
    max_layers: int | None = None,
) -> CostTable:
    """The table of all segments that a best plan may need.

    Parameters
    ----------
    candidates: must hold, for the table to be complete, each device alone and every set of devices replicated.
    max_layers: longest segment; None for as long as can be of use (at most `growth.LONGEST_SEGMENT`).
    """
    growth = Growth(graph, devices, tuple(candidates), model, max_layers)
    return assemble(growth, growth.grow_all())


def assemble(growth: Growth, grown: Sequence[Sequence[Grown]]) -> CostTable:
    """The table of grown segments."""
    return _Assembly(growth, grown).table()


class _Assembly:
    """Turns grown segments into one array per cut."""

    def __init__(self, growth: Growth, grown: Sequence[Sequence[Grown]]) -> None:
        self.growth, self.grown = growth, grown
        self.graph = growth.graph
        self.kinds = tuple(growth.steps.kinds.values())
        self.kind_numbers = {id(kind): number for number, kind in enumerate(self.kinds)}
        self.numbers = {name: number for number, name in enumerate((*self.graph.inputs, *self.graph.producer))}

    def table(self) -> CostTable:
        layers = len(self.graph.layers)
        rows: list[list[tuple[int, int, Grown, int]]] = [[] for _ in range(layers + 1)]
        for stop, choices in enumerate(self.grown):
            for choice, grown in enumerate(choices):
                for at, first in enumerate(grown.firsts):
                    rows[first].append((stop, choice, grown, at))
        cuts = tuple(self._cut(position, rows[position]) for position in range(layers + 1))
        live = self.graph.live_after(layers)
        gather = np.array([self.growth.whole_at_master(name) for name in live], dtype=np.int64)
        weights = [self.growth.whole_weight_bytes(layer) for layer in range(layers)]
        return CostTable(
            cuts,
            self.growth.candidates,
            self.kinds,
            gather,
            self.growth.model,
            self.growth,
            self.grown,
            np.cumsum([0.0, *reversed(weights)])[::-1],
            self.growth.complete,
        )

    def _cut(self, position: int, rows: Sequence[tuple[int, int, Grown, int]]) -> Cut:
        graph, live = self.graph, self.graph.live_after(position)
        producers = tuple(graph.producer.get(name, -1) for name in live)
        latest = [slot for slot, producer in enumerate(producers) if producer == position - 1 and producer >= 0]
        choices = self.grown[position]
        if position == 0:
            holdings = [[self.growth.input_holding(name) for name in live]]
        else:
            holdings = [[grown.holdings.get(name, NOTHING) for name in live] for grown in choices]
        devices = self.growth.devices
        return Cut(
            tensors=tuple(self.numbers[name] for name in live),
            kinds=tuple(self.kind_numbers[id(self.growth.steps.kind(name))] for name in live),
            producers=producers,
            main=latest[-1] if latest else -1,
            candidates=tuple(grown.candidate for grown in choices),
            holdings=_matrix(holdings, len(live)),
            stop=np.array([row[0] for row in rows], dtype=np.int64),
            choice=np.array([row[1] for row in rows], dtype=np.int64),
            compute_seconds=np.array([g.compute_seconds[at] for _, _, g, at in rows]).reshape(-1, devices),
            weight_bytes=np.array([g.weight_bytes[at] for _, _, g, at in rows]).reshape(-1, devices),
            relief_seconds=np.array([g.relief_seconds if at == len(g.firsts) - 1 else 0.0 for _, _, g, at in rows]),
            needs=_matrix([_needs(g.needs[at], live) for _, _, g, at in rows], len(live)),
        )


def _needs(wanted: Mapping[str, int], live: Sequence[str]) -> list[int]:
    return [wanted.get(name, NOTHING) for name in live]


def _matrix(rows: Sequence[Sequence[int]], columns: int) -> Indices:
    return np.array(rows, dtype=np.int64).reshape(len(rows), columns)
