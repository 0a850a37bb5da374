"""On a device: the unsplit model in onnxruntime, its input in place; no network, no FlexPie.

python -m flexpie.benchmark.alone SOCKET
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flexpie.benchmark.orders import Answer, arrays_of, serve
from flexpie.reference.comparing import Comparison, compare
from flexpie.reference.unsplit import UnsplitModel


class Alone:
    """One session after another."""

    def __init__(self) -> None:
        self._model: UnsplitModel | None = None
        self._inputs: dict[str, Any] = {}
        self._expected: dict[str, Any] = {}

    def load(self, model: str, inputs: str, expected: str) -> Answer:
        """A new session."""
        self._model = UnsplitModel(Path(model))
        self._inputs, self._expected = arrays_of(inputs), arrays_of(expected)
        return {}

    def unload(self) -> Answer:
        """End the session."""
        self._model = None
        return {}

    def ask(self, requests: int) -> Answer:
        """Run so many times."""
        if self._model is None:
            raise RuntimeError("nothing is loaded")
        found: list[tuple[float, Comparison]] = []
        begin = time.perf_counter()
        for _ in range(requests):
            outputs, seconds = self._model.run(self._inputs)
            found.append((seconds, compare(self._expected, outputs)))
        return {
            "seconds": [seconds for seconds, _ in found],
            "wall_seconds": time.perf_counter() - begin,
            "difference": max(comparison.max_rel_error for _, comparison in found),
            "equal": all(comparison.equal for _, comparison in found),
        }


def main() -> None:
    """Carry out orders."""
    alone = Alone()
    serve({"load": alone.load, "ask": alone.ask, "unload": alone.unload})


if __name__ == "__main__":
    main()
