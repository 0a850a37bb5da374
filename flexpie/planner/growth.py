"""Grows segments backwards from every place where one can end, in every candidate division."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.planner.boxes import distinct
from flexpie.planner.candidates import Candidate
from flexpie.planner.chains import NO_START, Grown, Start
from flexpie.planner.cost import CostModel
from flexpie.planner.divisions import Divisions
from flexpie.planner.growing import Growing

LONGEST_SEGMENT = 64
"""Layers after which growth ends where nothing else ends it: it bounds the table of very deep graphs. With more than 8
devices, on which less is left to each, it is less in proportion."""
_FEW_LAYERS = 8
"""But never less than this."""


class Growth(Divisions):
    """Grows the segments of one graph, as long as they can be of use.

    Growth stops in front of layer i when every longer segment [f, e) can be split there without loss: into
    [f, i) replicated on a set A of devices and [i, e). That is so where

    - every device of A needs all of every tensor that is live at i, and the others need nothing: what [f, i)
      computes is then the same in both, and no exchange separates the two;
    - layer i - 1 yields or reads all of each of these tensors, so that [f, i) makes A hold them;
    - tensors that are live at e as well will be sent by the same devices in both.

    With c1, c2 the devices' seconds in both parts, fusion still saves max c1 + max c2 − max(c1 + c2), the sums of the
    split being taken over its slowest devices. That is 0 where the devices of A are equally fast. Where they are not
    it is at most max c2 − min over A of c2, the relief; see `flexpie.planner.extension`.

    All chains grow together, layer by layer from the last to the first.
    """

    def __init__(
        self,
        graph: LayerGraph,
        devices: int,
        candidates: tuple[Candidate, ...],
        model: CostModel,
        max_layers: int | None = None,
    ) -> None:
        super().__init__(graph, devices, candidates, model, arising=max_layers is None)
        longest = max(_FEW_LAYERS, LONGEST_SEGMENT * 8 // max(8, devices))
        self.longest = longest if max_layers is None else max_layers
        """Layers of the longest segments that are grown."""
        self.limited = max_layers is not None
        """Whether longer segments are of no interest."""
        self.complete = not self.limited
        """Whether no segment is missing that could be of use."""
        self.starts: list[Start] = [NO_START] * (len(graph.layers) + 1)
        """Per cut: the candidates that divide what is live there differently."""

    def _start(self, stop: int) -> Start:
        """The candidates that divide the live tensors in front of layer `stop` differently."""
        names = [name for name in self.graph.live_after(stop) if name in self.graph.producer]
        if not names:
            return Start((0,), {})
        layouts = np.stack([self.owned_layouts(name) for name in names], axis=1)
        first, _ = distinct(layouts)
        return Start(tuple(first.tolist()), {name: layouts[first, at] for at, name in enumerate(names)})

    def grow_all(self, splits: bool = True) -> Grown:
        """The segments that end at every cut, per distinct candidate. None end at the first cut.

        Parameters
        ----------
        splits: whether growth stops where longer segments can be split without loss.
        """
        layers = len(self.graph.layers)
        self.starts = [NO_START, *(self._start(stop) for stop in range(1, layers + 1))]
        run = Growing(self, self.starts, self.longest, splits)
        grown = run.grown()
        self.complete = self.complete and run.complete
        return grown

    def grow_whole(self, places: Mapping[int, Sequence[int]]) -> Grown:
        """What each of some sets of devices computes that has everything live at a cut whole; `places` are the numbers
        of the sets, by cut."""
        starts = [NO_START] * (len(self.graph.layers) + 1)
        for cut, numbers in places.items():
            wanted = {name: self.wholes(name)[list(numbers)] for name in self.graph.live_after(cut)}
            starts[cut] = Start(tuple(numbers), {}, wanted)
        return Growing(self, starts, self.longest, splits=False).grown()
