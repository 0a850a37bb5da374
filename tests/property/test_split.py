"""The defining test: a random graph on random devices by a random plan answers what unsplit onnxruntime answers."""

from __future__ import annotations

import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.conftest import LONG
from tests.random_graphs import convolutional_models
from tests.random_operators import operator_models
from tests.random_plans import plans
from tests.splitting import imported, split_against_unsplit

_PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=2000 if LONG else 320, suppress_health_check=_PATIENT)
@given(st.data())
def test_convolutional_graphs(data: st.DataObject) -> None:
    _check(data, data.draw(convolutional_models()))


@settings(max_examples=2000 if LONG else 320, suppress_health_check=_PATIENT)
@given(st.data())
def test_graphs_over_the_whole_rule_set(data: st.DataObject) -> None:
    _check(data, data.draw(operator_models()))


def _check(data: st.DataObject, model: onnx.ModelProto) -> None:
    unsplit = imported(model)
    plan = data.draw(plans(unsplit.graph, devices=data.draw(st.integers(1, 5))))
    comparison = split_against_unsplit(model, unsplit, plan)
    assume(comparison is not None)
    assert comparison is not None
    assert comparison.equal, comparison
