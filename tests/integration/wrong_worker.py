"""A worker whose processor computes other results than everybody's; run by test_self_check.py as a process."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from flexpie.wire.opaque import Datum
from flexpie.worker.daemon import WorkerSettings, serve
from flexpie.worker.engine import Interruption, OnnxRuntimeEngine, Port, Session


class WrongSession:
    """Yields a little more than it should."""

    def __init__(self, right: Session) -> None:
        self._right = right
        self.inputs: tuple[Port, ...] = right.inputs
        self.outputs: tuple[Port, ...] = right.outputs

    def run(self, arrays: Sequence[Datum], interruption: Interruption | None = None) -> list[Datum]:
        return [array + 0.01 for array in self._right.run(arrays, interruption)]


class WrongEngine(OnnxRuntimeEngine):
    """Loads everything, and computes it a little wrong."""

    def load(self, model: Path | bytes) -> Session:
        return WrongSession(super().load(model))


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    settings = WorkerSettings(port=0)
    asyncio.run(serve(settings, lambda address: print(f"listening on {address}", flush=True), WrongEngine()))  # noqa: T201
