"""Rules of RNN, GRU and LSTM, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values

SEEDS = st.integers(0, 9999)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@st.composite
def recurrent(draw: st.DrawFn) -> Case:
    op_type = draw(st.sampled_from(("RNN", "GRU", "LSTM")))
    time, batch, features, hidden = (draw(st.integers(1, 4)) for _ in range(4))
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    directions = 2 if direction == "bidirectional" else 1
    width = GATES[op_type] * hidden
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op_type == "GRU" and draw(st.booleans()):
        attributes["linear_before_reset"] = 1
    if draw(st.integers(0, 3)) == 0:
        functions = {"RNN": ["Relu"], "GRU": ["Sigmoid", "Relu"], "LSTM": ["Sigmoid", "Tanh", "Relu"]}[op_type]
        attributes["activations"] = tuple(functions * directions)
    inputs: list[Array | None] = [
        values((time, batch, features)),
        values((directions, width, features), 1) * 0.5,
        values((directions, width, hidden), 2) * 0.5,
        values((directions, 2 * width), 3) if draw(st.booleans()) else None,
        np.random.default_rng(4).integers(1, time + 1, batch).astype(np.int32) if draw(st.booleans()) else None,
        values((directions, batch, hidden), 5) if draw(st.booleans()) else None,
    ]
    if op_type == "LSTM":
        inputs.append(values((directions, batch, hidden), 6) if draw(st.booleans()) else None)
        inputs.append(values((directions, 3 * hidden), 7) if draw(st.booleans()) else None)
    outputs = draw(st.lists(st.booleans(), min_size=1, max_size=3 if op_type == "LSTM" else 2).filter(any))
    while not outputs[-1]:
        outputs.pop()
    opset = draw(st.sampled_from((7, 14, 22)))
    return Case(op_type, tuple(inputs), attributes, opset, outputs=tuple(outputs))


@given(case=recurrent(), seed=SEEDS)
def test_part_of_recurrent_layer_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed)


def test_batch_first_is_whole() -> None:
    inputs = (values((3, 2, 4)), values((1, 12, 4), 1), values((1, 12, 3), 2))
    case = Case("GRU", inputs, {"hidden_size": 3, "layout": 1}, 14, outputs=(True, True))
    bound = bound_case(case, [np.zeros((3, 2, 1, 3), np.float32), np.zeros((3, 1, 3), np.float32)])
    assert not rule_for(bound.operator).rule.supports(bound)  # type: ignore[attr-defined]


def test_one_direction_takes_its_own_weights() -> None:
    inputs = (values((5, 3, 4)), values((2, 8, 4), 1), values((2, 8, 2), 2), None, None, values((2, 3, 2), 5))
    case = Case("LSTM", inputs, {"hidden_size": 2, "direction": "bidirectional"}, 14, outputs=(True, True))
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    produced = rule.produces(bound, (Region.of((2, 3), (1, 2), (1, 3), (0, 1)), None))
    assert produced == (Region.of((0, 5), (1, 2), (1, 3), (0, 2)), None)
    needed = rule.needs(bound, produced)
    assert needed == (
        Region.of((0, 5), (1, 3), (0, 4)), Region.of((1, 2), (0, 8), (0, 4)), Region.of((1, 2), (0, 8), (0, 2)),
        None, None, Region.of((1, 2), (1, 3), (0, 2)),
    )  # fmt: skip
    assert rule.local_form(bound, produced, needed).attributes == {"direction": "reverse"}
    assert rule.flops(bound, produced) == 2 * 5 * 2 * (8 * 4 + 8 * 2)
