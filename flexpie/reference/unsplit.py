"""The unsplit model in onnxruntime, in this process: what a split answer is compared with, and how fast it is alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from flexpie.worker.engine import OnnxRuntimeEngine


class UnsplitModel:
    """One ordinary onnxruntime session of the whole file, with one thread, as on one device."""

    def __init__(self, path: Path) -> None:
        self._session = OnnxRuntimeEngine(threads=1).load(path)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, npt.NDArray[Any]], float]:
        """Outputs by name, and the seconds that it took."""
        arrays = [feeds[spec.name] for spec in self._session.inputs]
        start = time.perf_counter()
        results = self._session.run(arrays)
        seconds = time.perf_counter() - start
        return dict(zip((spec.name for spec in self._session.outputs), results, strict=True)), seconds
