"""Wall clocks that jump, of single processes: a library of a few lines, loaded before theirs (`wall_clock.c`).

The kernel has only one wall clock for all processes of a machine, and it belongs to others as well.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

_SOURCE = Path(__file__).with_name("wall_clock.c")


class Clocks:
    """The wall clocks of processes that are started while this is in use."""

    def __init__(self, folder: Path) -> None:
        """Without a C compiler, no clock can jump: see `usable`."""
        self._folder = folder
        self._library = folder / "wall_clock.so"
        compiler = shutil.which("cc")
        self.usable = compiler is not None
        if compiler is not None:
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", self._library, _SOURCE], check=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Every process that is started in this block has a wall clock that can jump."""
        if not self.usable:
            yield
            return
        words = {"LD_PRELOAD": str(self._library), "FLEXPIE_CHAOS_CLOCK": str(self._folder)}
        with patch.dict(os.environ, words):
            yield

    def jump(self, pid: int, seconds: float) -> None:
        """Let a process's wall clock be so far off the machine's from now on."""
        with (self._folder / str(pid)).open("r+b") as file:
            file.write(struct.pack("@q", round(seconds)))
