"""Runs a case unsplit and split, and says how it went."""

from __future__ import annotations

import enum
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.runner import Runner

from flexpie.core.errors import FlexPieError
from tests.onnx_backend.backend import Choice, FlexPieBackend, UnsplitModel
from tests.onnx_backend.cases import Case, DataSet


class Verdict(enum.Enum):
    """How a case went."""

    REFUSED = "onnxruntime refuses the model"
    FAILED = "onnxruntime fails to run it"
    DIFFERENT = "onnxruntime answers something else"
    WHOLE = "right, each operator whole on some device"
    SPLIT = "right, with operators divided over devices"
    WRONG = "FlexPie fails"


@dataclass
class Tally:
    """How often each verdict was given, and what failed."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, case: Case, scheme: Choice, layers_per_segment: int) -> None:
        """Judge a case."""
        verdict, reason = judge(case, scheme, layers_per_segment)
        self.counts[verdict] += 1
        if verdict is Verdict.WRONG:
            self.failures.append(f"{case.name} ({layers_per_segment} layers in a segment): {reason}")

    def __str__(self) -> str:
        return "; ".join(f"{self.counts[verdict]} {verdict.value}" for verdict in Verdict)


def judge(case: Case, scheme: Choice, layers_per_segment: int = 1) -> tuple[Verdict, str]:
    """The verdict on a case, and its reason where it did not go well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, in what the suite computes
        model, data_sets = case.read()
        verdict, reason = _unsplit(case, model, data_sets)
        if verdict is not Verdict.WHOLE:
            return verdict, reason
        try:
            return _split(case, model, data_sets, scheme, layers_per_segment), ""
        except Exception as error:  # a defect may raise anything
            return Verdict.WRONG, f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"


def _unsplit(case: Case, model: onnx.ModelProto, data_sets: list[DataSet]) -> tuple[Verdict, str]:
    try:
        unsplit = UnsplitModel(model)
    except FlexPieError as error:
        return Verdict.REFUSED, error.message
    for inputs, expected in data_sets:
        try:
            outputs = unsplit.run(inputs)
        except Exception as error:  # data that does not fit raises many types
            return Verdict.FAILED, str(error)
        try:
            _compare(case, expected, outputs)
        except (AssertionError, TypeError, AttributeError) as error:
            return Verdict.DIFFERENT, str(error)
    return Verdict.WHOLE, ""


def _split(
    case: Case, model: onnx.ModelProto, data_sets: list[DataSet], scheme: Choice, layers_per_segment: int
) -> Verdict:
    divided = False
    for inputs, expected in data_sets:
        split = FlexPieBackend.prepare(model, scheme=scheme, layers_per_segment=layers_per_segment, inputs=inputs)
        try:
            _compare(case, expected, split.run(inputs))
        except (AssertionError, FlexPieError) as error:
            raise AssertionError(f"split by {split.scheme}: {error}") from error
        divided |= split.divided
    return Verdict.SPLIT if divided else Verdict.WHOLE


def _compare(case: Case, expected: Sequence[Any], outputs: Sequence[Any]) -> None:
    """As the suite does; float16, like bfloat16 there, may differ by two units in the last place, because what
    onnxruntime computes in float32 inside of a model is rounded between two segments."""
    assert len(expected) == len(outputs)
    for one, other in zip(expected, outputs, strict=True):
        half = isinstance(one, np.ndarray) and one.dtype == np.float16
        if one is None or other is None:
            assert one is None, "nothing came out"
            assert other is None, "nothing should have come out"
        else:
            Runner.assert_similar_outputs([one], [other], max(case.rtol, 2**-9 if half else 0), case.atol)
