"""The decoders, on short sequences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from flexpie_models import build, describe
from flexpie_models.gpt2 import Gpt2Config, build_gpt2
from tests.unit.models.by_hand import Weights, attention, gelu_by_tanh
from tests.unit.models.sessions import Tensor, rounding, run, shapes

SMALL = Gpt2Config("gpt2_small", layers=2, width=32, heads=4, vocabulary=50, positions=16, logits=True)
HIDDEN = Gpt2Config("gpt2_hidden", layers=2, width=32, heads=4, vocabulary=50, positions=16)


def ids(batch: int, sequence: int, vocabulary: int = 50) -> dict[str, Tensor]:
    return {"input_ids": np.random.default_rng(3).integers(0, vocabulary, (batch, sequence))}


@pytest.fixture(scope="module")
def small() -> onnx.ModelProto:
    return build_gpt2(SMALL, seed=0, batch=2, sequence_length=8)


def from_the_paper(model: onnx.ModelProto, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(last hidden state, logits)."""
    weights = Weights(model, epsilon=1e-5)
    sequence = input_ids.shape[1]
    x = weights["transformer.wte.weight"][input_ids] + weights["transformer.wpe.weight"][:sequence]
    future = np.where(np.arange(sequence)[None] > np.arange(sequence)[:, None], -np.inf, 0.0)
    for module in (f"transformer.h.{layer}" for layer in range(SMALL.layers)):
        packed = weights.linear(weights.normalise(x, f"{module}.ln_1"), f"{module}.attn.c_attn")
        context = attention(np.split(packed, 3, axis=-1), SMALL.heads, future)
        x = x + weights.linear(context, f"{module}.attn.c_proj")
        modules = (f"{module}.mlp.c_fc", f"{module}.mlp.c_proj")
        x = x + weights.feed_forward(weights.normalise(x, f"{module}.ln_2"), modules, gelu_by_tanh)
    x = weights.normalise(x, "transformer.ln_f")
    return x, x @ weights["transformer.wte.weight"].T


def test_it_computes_what_the_paper_says(small: onnx.ModelProto) -> None:
    inputs = ids(2, 8)
    np.testing.assert_allclose(run(small, inputs)[0], from_the_paper(small, inputs["input_ids"])[1], atol=2e-5)
    hidden = build_gpt2(HIDDEN, seed=0, batch=2, sequence_length=8)
    np.testing.assert_allclose(run(hidden, inputs)[0], from_the_paper(hidden, inputs["input_ids"])[0], atol=2e-5)


def test_operators(small: onnx.ModelProto) -> None:
    counted = Counter(node.op_type for node in small.graph.node if node.op_type != "Constant")
    per_layer = {"LayerNormalization": 2, "Gemm": 4, "Split": 1, "Transpose": 4, "Softmax": 1, "Where": 1, "Div": 1}
    per_layer |= {"MatMul": 2, "Reshape": 12, "Add": 4, "Mul": 4, "Pow": 1, "Tanh": 1}
    once = {"Gather": 2, "Add": 1, "LayerNormalization": 1, "Transpose": 1, "MatMul": 1}
    layers = Counter({operator: SMALL.layers * count for operator, count in per_layer.items()})
    assert counted == layers + Counter(once)


def test_symbolic_batch_and_sequence_change_no_number() -> None:
    symbolic = build_gpt2(SMALL, seed=0, batch=1, sequence_length=1, dynamic=True)
    onnx.checker.check_model(symbolic, full_check=True)
    assert shapes(symbolic.graph.output) == {"logits": ["batch", "sequence", 50]}
    for batch, sequence in ((1, 8), (2, 5), (3, 16)):
        inputs = ids(batch, sequence)
        fixed = build_gpt2(SMALL, seed=0, batch=batch, sequence_length=sequence)
        np.testing.assert_allclose(run(symbolic, inputs)[0], run(fixed, inputs)[0], atol=1e-5)


def test_a_token_matters_to_itself_and_those_behind_it() -> None:
    model = build("gpt2_tiny", sequence_length=32)
    inputs = ids(1, 32, vocabulary=50257)
    changed = {"input_ids": inputs["input_ids"].copy()}
    changed["input_ids"][0, 10] = 7
    before, after = run(model, inputs)[0], run(model, changed)[0]
    change = np.abs(before - after)[0].max(axis=1)
    assert change[:10].max() == 0.0
    assert change.argmax() == 10
    assert change[11:].min() > 1e-3
    assert 0.5 < before.std() < 2.0
    assert rounding(model, inputs) < 2e-5


def test_blocks_have_the_published_number_of_parameters() -> None:
    per_block = 7_087_872
    assert describe("gpt2_block").parameters + 10 * per_block == 124_439_808


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="gpt2_block knows 1024 positions, not a sequence of 1025"):
        build("gpt2_block", sequence_length=1025)
    with pytest.raises(ValueError, match="width 30 does not divide into 4 heads"):
        Gpt2Config("odd", layers=1, width=30, heads=4)
