"""The cases of ONNX's own backend test suite, from the onnx package alone."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

FROM_FILES = ("simple", "pytorch-operator", "pytorch-converted")
"""Kinds of cases that lie in the package as files."""

DataSet = tuple[list[Any], list[Any]]
"""Inputs and expected outputs: arrays, lists of arrays, or None."""


@dataclass(frozen=True)
class Case:
    """One model with its data."""

    name: str
    kind: str
    rtol: float
    atol: float
    read: Callable[[], tuple[onnx.ModelProto, list[DataSet]]]

    @cached_property
    def number(self) -> int:
        """Evenly spread over all numbers, and the same in each run."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case but the nine large ones (`light_models`), by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of what the cases are about
        node = [_from_memory(case) for case in load_model_tests(kind="node")]
    files = [_from_files(case) for kind in FROM_FILES for case in load_model_tests(kind=kind)]
    return tuple(sorted(node + files, key=lambda case: case.name))


def light_models() -> dict[str, Path]:
    """Real models whose weights are left out: all the same number."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    return {path.stem.removeprefix("light_"): path for path in sorted(folder.glob("light_*.onnx"))}


def _from_memory(case: Any) -> Case:
    def read() -> tuple[onnx.ModelProto, list[DataSet]]:
        sets = [([_array(item) for item in inputs], [_array(item) for item in outputs])
                for inputs, outputs in case.data_sets]  # fmt: skip
        return case.model, sets

    return Case(case.name, case.kind, case.rtol, case.atol, read)


def _from_files(case: Any) -> Case:
    return Case(case.name, case.kind, case.rtol, case.atol, lambda: _from_folder(Path(case.model_dir)))


def _array(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, np.generic) else item


def _from_folder(folder: Path) -> tuple[onnx.ModelProto, list[DataSet]]:
    model = onnx.load(str(folder / "model.onnx"))
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = [_value(data / f"input_{at}.pb", info.type) for at, info in enumerate(model.graph.input)
                  if (data / f"input_{at}.pb").exists()]  # fmt: skip
        outputs = [_value(data / f"output_{at}.pb", info.type) for at, info in enumerate(model.graph.output)]
        sets.append((inputs, outputs))
    return model, sets


def _value(path: Path, kind: onnx.TypeProto) -> Any:
    content = path.read_bytes()
    match kind.WhichOneof("value"):
        case "sequence_type":
            return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
        case _:
            return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def lengths(values: Sequence[Any]) -> list[tuple[int, ...] | None]:
    """Shape of each value that is an array."""
    return [tuple(value.shape) if isinstance(value, np.ndarray) else None for value in values]
