"""What is done of a benchmark, and what is left, as its file tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flexpie.benchmark.cells import Cell
from flexpie.benchmark.records import Failed, Launch, Record, Simulated, Traced
from flexpie.benchmark.schedule import turns


@dataclass
class Ledger:
    """Launches that were made, of each cell and strategy."""

    strategies: Sequence[str]
    launches: int
    """Wanted of each."""
    noisy_too: bool = False
    """Whether launches on a noisy machine count as done."""
    _done: Counter[tuple[Cell, str]] = field(default_factory=Counter)
    _given_up: set[tuple[Cell, str]] = field(default_factory=set)
    _traced: set[tuple[Cell, str]] = field(default_factory=set)
    _simulated: set[tuple[Cell, str]] = field(default_factory=set)

    def note(self, records: Iterable[Record]) -> None:
        """Take in what a file holds."""
        for record in records:
            match record:
                case Launch(cell=cell, strategy=strategy, noisy=noisy):
                    self._done[cell, strategy] += self.noisy_too or not noisy
                case Traced(cell=cell, strategy=strategy):
                    self._traced.add((cell, strategy))
                case Failed(cell=cell, strategy=strategy, final=True):
                    self._given_up.add((cell, strategy))
                case Simulated(cell=cell, strategy=strategy):
                    self._simulated.add((cell, strategy))
                case _:
                    pass

    def possible(self, cell: Cell) -> list[str]:
        """Strategies that have not been refused."""
        return [name for name in self.strategies if (cell, name) not in self._given_up]

    def left(self, cell: Cell) -> list[tuple[int, str]]:
        """Rounds and strategies of the launches that a cell lacks, in order."""
        names = self.possible(cell)
        return turns(names, self.launches, {name: self._done[cell, name] for name in names})

    def traced(self, cell: Cell, strategy: str) -> bool:
        """Whether there is a trace of it."""
        return (cell, strategy) in self._traced

    def unsimulated(self, cell: Cell) -> list[str]:
        """Strategies of which there is no simulation."""
        return [name for name in self.possible(cell) if (cell, name) not in self._simulated]
