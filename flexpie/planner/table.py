"""The cost table: everything that the search needs to know, as arrays of numbers."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.planner.boxes import Indices, Mask, distinct, row_keys, unique
from flexpie.planner.candidates import Candidate
from flexpie.planner.chains import Grown, Rows
from flexpie.planner.cost import Array, CostModel
from flexpie.planner.growth import Growth
from flexpie.planner.layouts import NOTHING, TensorKind

_SMALL = 0.02
"""Part of the largest live tensor that a small one has at most; see `CostTable.small`."""
_TOGETHER = 2048
"""Exchanges of several tensors of which the seconds are asked at once."""


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
    asked_by_master: tuple[bool, ...]
    """Whether each live tensor is one of the model's outputs."""
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
class Reads:
    """The distinct needs of the segments that begin at a cut. Many segments need the same: what their exchange costs is
    worked out once."""

    needs: Indices
    """Layout in which each live tensor is needed, [U, T]; `NOTHING` where it is not read."""
    of_segment: Indices
    """Number of the needs of each segment, [N]."""
    several: Mask
    """Whether more than one tensor is read, [U]."""

    def most(self, values: Array) -> Array:
        """The largest of the segments' values for each of the needs, [N] → [U]."""
        return np.maximum.reduceat(values[self._sorted], self._begins)

    @cached_property
    def _sorted(self) -> Indices:
        return np.argsort(self.of_segment, kind="stable")

    @cached_property
    def _begins(self) -> Indices:
        return np.searchsorted(self.of_segment[self._sorted], np.arange(len(self.needs)))


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
    grown: Grown
    complete: bool
    """Whether no segment is missing that could be part of a best plan, but for those that `relief_seconds` hint at."""
    joint: dict[tuple[int, ...], dict[bytes, float]] = field(default_factory=dict, init=False, repr=False)
    """Seconds of exchanges of several tensors that were asked for, by their kinds and by holdings and needs."""

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Number of the first candidate of each cut when those of all cuts are numbered through; the first cut counts
        one."""
        counts = [max(1, len(cut.candidates)) for cut in self.cuts]
        return tuple(itertools.accumulate(counts, initial=0))

    @cached_property
    def targets(self) -> tuple[Indices, ...]:
        """Per cut: the number of the candidate with which each segment ends, [N], numbered through."""
        offsets = np.array(self.offsets, dtype=np.int64)
        return tuple(offsets[cut.stop] + cut.choice for cut in self.cuts)

    @cached_property
    def reads(self) -> tuple[Reads, ...]:
        """Per cut: what the segments that begin there read."""
        return tuple(_reads_of(cut) for cut in self.cuts)

    @cached_property
    def small(self) -> tuple[Mask, ...]:
        """Per cut: which live tensors are so small beside others there that bounds may take them for free, [T]."""
        found = []
        for cut in self.cuts:
            nbytes = np.array([self.kinds[kind].nbytes_of_all for kind in cut.kinds], dtype=np.float64)
            small = nbytes <= _SMALL * nbytes.max(initial=0.0)
            small[cut.main : cut.main + 1 if cut.main >= 0 else cut.main] = False
            found.append(small)
        return tuple(found)

    @cached_property
    def fresh(self) -> tuple[Mask, ...]:
        """Per cut: which of the segments that begin there have produced all that is live where they end, but for what
        is `small`, [N]. Its candidate alone then says who holds what."""
        oldest = np.array(
            [
                min((layer for layer, small in zip(cut.producers, some, strict=True) if not small), default=position)
                for position, (cut, some) in enumerate(zip(self.cuts, self.small, strict=True))
            ],
            dtype=np.int64,
        )
        return tuple(oldest[cut.stop] >= position for position, cut in enumerate(self.cuts))

    @cached_property
    def produced(self) -> Indices:
        """Holdings of the live tensors at the end of segments, by the number of the candidate, [candidates of all
        cuts, most live tensors]; padded."""
        found = np.full((self.offsets[-1], self.tensors.shape[1]), NOTHING, dtype=np.int64)
        for offset, cut in zip(self.offsets, self.cuts, strict=False):
            found[offset : offset + len(cut.holdings), : len(cut.tensors)] = cut.holdings
        return found

    @cached_property
    def tensors(self) -> Indices:
        """Live tensors, [cuts, most live tensors]; padded."""
        found = np.full((len(self.cuts), max(1, *(len(cut.tensors) for cut in self.cuts))), NOTHING, dtype=np.int64)
        for row, cut in zip(found, self.cuts, strict=True):
            row[: len(cut.tensors)] = cut.tensors
        return found

    @cached_property
    def yields_everywhere(self) -> Mask:
        """Whether every device has all of the main tensor at the end of a segment that ends with a candidate, and the
        master will ask for nothing that is live there, [candidates of all cuts]."""
        found = np.zeros(self.offsets[-1], dtype=np.bool_)
        for position, cut in enumerate(self.cuts):
            if cut.main >= 0 and not any(cut.asked_by_master):
                kind = self.kinds[cut.kinds[cut.main]]
                found[self.of_cut(position)] = kind.everywhere(cut.holdings[:, cut.main])
        return found

    def cut_of(self, target: int) -> int:
        """The cut of a candidate, given its number."""
        return bisect.bisect_right(self.offsets, target) - 1

    def of_cut(self, position: int) -> slice:
        """The numbers of a cut's candidates."""
        return slice(self.offsets[position], self.offsets[position + 1])

    def alone_seconds(self, cut: int, slot: int, holdings: Indices, needs: Indices) -> Array:
        """Seconds of exchanges of one live tensor alone, [len(holdings), len(needs)]; needs may be `NOTHING`."""
        kind = self.kinds[self.cuts[cut].kinds[slot]]
        unique_holdings, rows = unique(holdings)
        unique_needs, columns = unique(needs)
        seconds = np.zeros((len(unique_holdings), len(unique_needs)))
        real = unique_needs != NOTHING
        if real.any() and len(unique_holdings):
            seconds[:, real] = kind.exchange_seconds(self.model, unique_holdings, unique_needs[real])
        result: Array = seconds[rows[:, None], columns[None, :]]
        return result

    def joint_seconds(self, cut: int, holdings: Indices, needs: Indices) -> Array:
        """Seconds of exchanges of all live tensors at once, remembered; holdings and needs: [questions, T]."""
        known = self.joint.setdefault(self.cuts[cut].kinds, {})
        keys = row_keys(np.hstack((np.where(needs == NOTHING, NOTHING, holdings), needs)))
        fresh = {key: at for at, key in enumerate(keys) if key not in known}
        rows = np.array(list(fresh.values()), dtype=np.int64)
        for start in range(0, len(rows), _TOGETHER):
            some = rows[start : start + _TOGETHER]
            seconds = self._ask_joint_seconds(cut, holdings[some], needs[some])
            known.update(zip((keys[at] for at in some.tolist()), seconds.tolist(), strict=True))
        return np.array([known[key] for key in keys], dtype=np.float64)

    def _ask_joint_seconds(self, cut: int, holdings: Indices, needs: Indices) -> Array:
        nbytes: Array | float = 0.0
        for slot, number in enumerate(self.cuts[cut].kinds):
            kind = self.kinds[number]
            asked = np.nonzero(needs[:, slot] != NOTHING)[0]
            if len(asked):
                added = np.zeros((len(needs), kind.ends, kind.ends))
                added[asked] = kind.nbytes(holdings[asked, slot], needs[asked, slot])
                nbytes = nbytes + added
        return np.zeros(len(needs)) if isinstance(nbytes, float) else self.model.exchange_seconds(nbytes)

    def segment(self, first: int, row: int) -> Segment:
        """A segment that begins at a cut."""
        cut = self.cuts[first]
        stop = int(cut.stop[row])
        scheme, shares = self.candidates[self.cuts[stop].candidates[int(cut.choice[row])]]
        return Segment(first, stop, scheme, shares)


def _reads_of(cut: Cut) -> Reads:
    first, of_segment = distinct(cut.needs)
    needs = cut.needs[first]
    return Reads(needs, of_segment, (needs != NOTHING).sum(axis=1) > 1)


def cost_table(
    graph: LayerGraph,
    devices: int,
    candidates: Sequence[Candidate],
    model: CostModel,
    max_layers: int | None = None,
    every_segment: bool = False,
) -> CostTable:
    """The table of all segments that a best plan may need.

    Parameters
    ----------
    candidates: must hold, for the table to be complete, each device alone and every set of devices replicated.
    max_layers: longest segment; None for as long as can be of use (at most `growth.LONGEST_SEGMENT`).
    every_segment: whether segments are of interest, too, that can be split without loss of time.
    """
    growth = Growth(graph, devices, tuple(candidates), model, max_layers)
    grown = growth.grow_all(splits=not every_segment)
    return assemble(growth, grown, grown.rows, reliefs(growth, grown))


def reliefs(growth: Growth, grown: Grown) -> Array:
    """The most that a segment which is longer than the longest one of a chain can save over its split, [chains]; see
    `Growth`."""
    chains = grown.chains
    found = np.zeros(len(chains.stop))
    ended = np.nonzero(chains.replicated != NOTHING)[0]
    ended = ended[~growth.equally_fast()[chains.replicated[ended]]]
    for first in unique(chains.first[ended])[0].tolist():
        rows = grown.rows[first]
        here = ended[chains.first[ended] == first]
        seconds = rows.compute_seconds[np.searchsorted(rows.chains, here)]
        for number in unique(chains.replicated[here])[0].tolist():
            some = chains.replicated[here] == number
            devices = sorted(growth.sets[number])
            found[here[some]] = seconds[some].max(axis=1) - seconds[some][:, devices].min(axis=1)
    return found


def assemble(growth: Growth, grown: Grown, rows: Sequence[Rows], relief: Array) -> CostTable:
    """The table of grown segments.

    Parameters
    ----------
    rows: the segments that begin at each cut but the last.
    relief: of each chain, [chains]; counts for its longest segment.
    """
    graph, steps = growth.graph, growth.steps
    kinds = tuple(steps.kinds.values())
    kind_numbers = {id(kind): number for number, kind in enumerate(kinds)}
    numbers = {name: number for number, name in enumerate((*graph.inputs, *graph.producer))}
    devices = growth.devices
    last = np.zeros((0, len(graph.live_after(len(rows)))), dtype=np.int64)
    none = Rows(np.zeros(0, dtype=np.int64), last, np.zeros((0, devices)), np.zeros((0, devices)))
    cuts = []
    for position, row in enumerate((*rows, none)):
        live = graph.live_after(position)
        producers = tuple(graph.producer.get(name, -1) for name in live)
        latest = [slot for slot, producer in enumerate(producers) if producer == position - 1 and producer >= 0]
        longest = grown.chains.first[row.chains] == position
        cuts.append(
            Cut(
                tensors=tuple(numbers[name] for name in live),
                kinds=tuple(kind_numbers[id(steps.kind(name))] for name in live),
                producers=producers,
                main=latest[-1] if latest else -1,
                asked_by_master=tuple(name in graph.outputs for name in live),
                candidates=growth.starts[position].candidates,
                holdings=_holdings(growth, grown, position),
                stop=grown.chains.stop[row.chains],
                choice=grown.chains.choice[row.chains],
                compute_seconds=row.compute_seconds,
                weight_bytes=row.weight_bytes,
                relief_seconds=np.where(longest, relief[row.chains], 0.0),
                needs=row.needs,
            )
        )
    gather = np.array([growth.whole_at_master(name) for name in graph.live_after(len(rows))], dtype=np.int64)
    return CostTable(tuple(cuts), growth.candidates, kinds, gather, growth.model, growth, grown, growth.complete)


def _holdings(growth: Growth, grown: Grown, position: int) -> Indices:
    """Holding of each live tensor when a segment that ends at a cut has produced it, [K, T]."""
    live, start = growth.graph.live_after(position), growth.starts[position]
    if position == 0:
        return np.array([[growth.input_holding(name) for name in live]], dtype=np.int64)
    holdings = np.full((len(start.candidates), len(live)), NOTHING, dtype=np.int64)
    for slot, name in enumerate(live):
        computed = grown.computed[position][:, slot]
        some = computed != NOTHING
        if name in start.owned and some.any():
            holdings[some, slot] = growth.steps.kind(name).produced(start.owned[name][some], computed[some])
    return holdings
