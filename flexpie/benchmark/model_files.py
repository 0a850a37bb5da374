"""Example models on disk, each with an input and the unsplit answer to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flexpie import pipeline
from flexpie.compiler import ImportedModel
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.reference.comparing import random_inputs
from flexpie.reference.unsplit import UnsplitModel

SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {"digits": {"image": (1, 1, 8, 8)}}
"""Of inputs that a model's file leaves open."""
_SEED = 7


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk, as those that run it need it."""

    name: str
    model: Path
    """ONNX."""
    inputs: Path
    """.npz: arrays by input name."""
    expected: Path
    """.npz: what unsplit onnxruntime yields, by output name."""
    imported: ImportedModel

    @property
    def arrays(self) -> dict[str, str]:
        """The files of arrays, as whoever asks is told of them."""
        return {"inputs": str(self.inputs), "expected": str(self.expected)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs."""
        graph = self.imported.graph
        return {name: graph.tensors[name].shape for name in graph.inputs}


class ModelLibrary:
    """Builds each example model once, in a folder."""

    def __init__(
        self, folder: Path, build: Callable[[str], bytes], shapes: Mapping[str, Mapping[str, tuple[int, ...]]] = SHAPES
    ) -> None:
        """`build` gives the bytes of the ONNX file of a model, and raises ValueError for a name that it does not
        know. `shapes` are those of inputs that a model's file leaves open."""
        self.folder = folder
        self._build = build
        self._shapes = shapes
        self._found: dict[str, ModelFiles] = {}

    def files(self, name: str) -> ModelFiles:
        """The files of a model; raises FlexPieError(INVALID_ARGUMENT) where there is none of that name."""
        if name not in self._found:
            self._found[name] = self._prepare(name)
        return self._found[name]

    def _prepare(self, name: str) -> ModelFiles:
        model, inputs, expected = (self.folder / f"{name}{suffix}" for suffix in (".onnx", ".in.npz", ".out.npz"))
        try:
            model.write_bytes(self._build(name))
        except ValueError as error:
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"{error}.") from None
        imported = pipeline.import_file(model, self._shapes.get(name))
        feeds = random_inputs(imported.graph, _SEED)
        answers, _ = UnsplitModel(model).run(feeds)
        _save(inputs, feeds)
        _save(expected, answers)
        return ModelFiles(name, model, inputs, expected, imported)


def _save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy: the keywords are arrays
