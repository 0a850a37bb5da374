"""The defining test: a random graph on random devices by a random plan answers what unsplit onnxruntime answers."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.conftest import LONG
from tests.random_graphs import convolutional_models
from tests.random_plans import plans
from tests.splitting import imported, split_against_unsplit


@settings(
    max_examples=2000 if LONG else 320,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(st.data())
def test_random_graph_random_plan(data: st.DataObject) -> None:
    model = data.draw(convolutional_models())
    unsplit = imported(model)
    plan = data.draw(plans(unsplit.graph, devices=data.draw(st.integers(1, 5))))
    comparison = split_against_unsplit(model, unsplit, plan)
    assume(comparison is not None)
    assert comparison is not None
    assert comparison.equal, comparison
