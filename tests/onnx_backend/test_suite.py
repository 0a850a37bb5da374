"""ONNX's own backend test suite, split over three devices: whatever onnxruntime answers right, FlexPie does too.

A plain run tries every case with one of the schemes that divide something in it, and one length of segments, chosen
by its name; FLEXPIE_LONG=1 tries every scheme.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest

from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import SPLITTING, Scheme
from tests.conftest import LONG, RECENT_ONNXRUNTIME
from tests.onnx_backend.backend import Choice, schemes_that_divide
from tests.onnx_backend.cases import Case, all_cases
from tests.onnx_backend.judging import Tally, Verdict

BATCHES = 16
LAYERS_PER_SEGMENT = (1, 2, 100)
ROUNDS = len(SPLITTING) if LONG else 1
LEAST_RIGHT = 105 * ROUNDS
"""Cases of a batch that must go right, so that none gets lost unnoticed where onnx or onnxruntime change."""
LEAST_SPLIT = 180 if LONG else 54
"""Those of them in which operators must have been divided."""
OUTDATED = ("test_sequence_insert_at_back",)
"""Cases that an older onnxruntime answers with zeros when its inputs lie in memory that is not its own."""


@pytest.fixture(autouse=True)
def _only_errors() -> Iterator[None]:
    logging.getLogger("flexpie").setLevel(logging.ERROR)
    yield
    logging.getLogger("flexpie").setLevel(logging.NOTSET)


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.timeout(600)
def test_every_case_that_passes_unsplit_passes_split(batch: int) -> None:
    tally = Tally()
    for case in all_cases()[batch::BATCHES]:
        if not RECENT_ONNXRUNTIME and case.name in OUTDATED:
            continue
        for scheme in schemes_for(case):
            tally.add(case, scheme, LAYERS_PER_SEGMENT[case.number // 7 % len(LAYERS_PER_SEGMENT)])
    assert not tally.failures, "\n".join(tally.failures)
    if RECENT_ONNXRUNTIME:
        assert tally.counts[Verdict.WHOLE] + tally.counts[Verdict.SPLIT] >= LEAST_RIGHT, tally
        assert tally.counts[Verdict.SPLIT] >= LEAST_SPLIT, tally


def schemes_for(case: Case) -> Sequence[Choice]:
    """What a case is tried with in this run."""

    def choose(graph: LayerGraph) -> Scheme:
        choices = schemes_that_divide(graph) or SPLITTING
        return choices[case.number % len(choices)]

    return SPLITTING if LONG else (choose,)
