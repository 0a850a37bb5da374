"""From traces to what estimators are trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flexpie.core.errors import FlexPieError
from flexpie.core.rates import REFERENCE_RATES
from flexpie.planner.estimator.features import WORK_FEATURES, speeds_of
from flexpie.traces.measured import measured_layers
from flexpie.traces.samples import ComputeSample
from flexpie.traces.store import TraceWriter, read_traces
from tests.unit.traces.traces_samples import compute_sample


def test_layers_are_taken_and_borders_left_out(tmp_path: Path) -> None:
    border = dataclasses.replace(compute_sample("c9"), place="enter")
    with TraceWriter(tmp_path, ComputeSample) as writer:
        writer.add([compute_sample("c0", seconds=1e-3), border, compute_sample("c1", seconds=2e-3)])
    measured = measured_layers(read_traces([tmp_path], ComputeSample))
    assert sorted(measured.configurations) == ["c0", "c1"]
    assert sorted(measured.seconds) == [1e-3, 2e-3]
    assert (measured.speeds == speeds_of(REFERENCE_RATES)).all()
    assert (measured.described[:, WORK_FEATURES.index("flops")] == 57802752).all()


def test_a_work_that_is_none_is_refused(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, ComputeSample) as writer:
        writer.add([dataclasses.replace(compute_sample(), work="[3]")])
    with pytest.raises(FlexPieError, match="Collect the traces again"):
        measured_layers(read_traces([tmp_path], ComputeSample))
