"""How far a benchmark is, on stderr: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from flexpie.benchmark.summary import CellResult


class ProgressBar:
    """A `flexpie.benchmark.sweep.Watcher`."""

    def __init__(self, headline: Callable[[CellResult], str]) -> None:
        """`headline` says what came of a cell in one line."""
        self._headline = headline
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, left="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

    def finished(self, result: CellResult) -> None:
        """A cell is complete."""
        self.say(self._headline(result))

    def stage(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)

    def step(self, done: int, total: int, seconds_left: float) -> None:
        """Launches made, launches in all, and how long the others will take."""
        self._progress.update(self._task, completed=done, total=total, left=f"{duration(seconds_left)} left")


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
