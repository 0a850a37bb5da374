"""The encoders, on short sequences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from flexpie_models import build
from flexpie_models.bert import BertConfig, build_bert
from tests.unit.models.by_hand import Weights, attention, gelu
from tests.unit.models.sessions import Tensor, run, shapes

SMALL = BertConfig("bert_small", layers=2, hidden=32, heads=4, feed_forward=64, vocabulary=50, positions=16)


def feeds(batch: int, sequence: int, vocabulary: int = 50) -> dict[str, Tensor]:
    draw = np.random.default_rng(3)
    return {
        "input_ids": draw.integers(0, vocabulary, (batch, sequence)),
        "attention_mask": np.ones((batch, sequence), np.int64),
        "token_type_ids": draw.integers(0, 2, (batch, sequence)),
    }


@pytest.fixture(scope="module")
def small() -> onnx.ModelProto:
    return build_bert(SMALL, seed=0, batch=1, sequence_length=8)


def from_the_paper(model: onnx.ModelProto, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(last hidden state, pooler output)."""
    weights = Weights(model, epsilon=1e-12)
    x = weights["embeddings.word_embeddings.weight"][inputs["input_ids"]]
    x = x + weights["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    x = x + weights["embeddings.position_embeddings.weight"][: x.shape[1]]
    x = weights.normalise(x, "embeddings.LayerNorm")
    mask = np.where(inputs["attention_mask"][:, None, None] == 1, 0.0, -np.inf)
    for module in (f"encoder.layer.{layer}" for layer in range(SMALL.layers)):
        parts = [weights.linear(x, f"{module}.attention.self.{part}") for part in ("query", "key", "value")]
        context = attention(parts, SMALL.heads, mask)
        attended = weights.linear(context, f"{module}.attention.output.dense") + x
        attended = weights.normalise(attended, f"{module}.attention.output.LayerNorm")
        modules = (f"{module}.intermediate.dense", f"{module}.output.dense")
        x = weights.normalise(weights.feed_forward(attended, modules, gelu) + attended, f"{module}.output.LayerNorm")
    return x, np.tanh(weights.linear(x[:, 0], "pooler.dense", transposed=True))


def test_it_computes_what_the_paper_says(small: onnx.ModelProto) -> None:
    inputs = feeds(1, 8)
    inputs["attention_mask"][:, 6:] = 0
    for actual, expected in zip(run(small, inputs), from_the_paper(small, inputs), strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_operators(small: onnx.ModelProto) -> None:
    counted = Counter(node.op_type for node in small.graph.node if node.op_type != "Constant")
    per_layer = {
        "MatMul": 8,
        "Add": 10,
        "Reshape": 4,
        "Transpose": 4,
        "Div": 2,
        "Mul": 2,
        "Softmax": 1,
        "Erf": 1,
        "LayerNormalization": 2,
    }
    once = {"Gather": 4, "Add": 2, "LayerNormalization": 1, "Unsqueeze": 2, "Cast": 1, "Sub": 1, "Mul": 1}
    once |= {"Gemm": 1, "Tanh": 1}
    layers = Counter({operator: SMALL.layers * count for operator, count in per_layer.items()})
    assert counted == layers + Counter(once)


def test_symbolic_batch_and_sequence_change_no_number() -> None:
    symbolic = build_bert(SMALL, seed=0, batch=1, sequence_length=1, dynamic=True)
    onnx.checker.check_model(symbolic, full_check=True)
    assert shapes(symbolic.graph.output) == {
        "last_hidden_state": ["batch", "sequence", 32],
        "pooler_output": ["batch", 32],
    }
    for batch, sequence in ((1, 8), (2, 5), (3, 16)):
        inputs = feeds(batch, sequence)
        fixed = build_bert(SMALL, seed=0, batch=batch, sequence_length=sequence)
        for actual, expected in zip(run(symbolic, inputs), run(fixed, inputs), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_masked_tokens_have_no_influence(small: onnx.ModelProto) -> None:
    inputs = feeds(1, 8)
    inputs["attention_mask"][0, 7] = 0
    changed = inputs | {"input_ids": inputs["input_ids"].copy()}
    changed["input_ids"][0, 7] = (changed["input_ids"][0, 7] + 1) % 50
    before, after = run(small, inputs)[0], run(small, changed)[0]
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.abs(before[:, 7] - after[:, 7]).max() > 0.1


def largest_change(model: onnx.ModelProto, inputs: dict[str, Tensor], token: int) -> npt.NDArray[np.float32]:
    """Per token, what another id at position `token` changes in the last layer."""
    changed = inputs | {"input_ids": inputs["input_ids"].copy()}
    changed["input_ids"][0, token] = 7
    result: npt.NDArray[np.float32] = np.abs(run(model, inputs)[0] - run(model, changed)[0])[0].max(axis=1)
    return result


def test_every_token_matters_everywhere_and_tokens_stay_apart() -> None:
    model = build("bert_tiny", sequence_length=32)
    inputs = feeds(1, 32, vocabulary=30522)
    for token in (0, 31):
        change = largest_change(model, inputs, token)
        assert change.argmax() == token
        assert change.min() > 1e-3
    hidden, pooled = run(model, inputs)
    assert 0.5 < hidden.std() < 2.0
    assert 0.3 < np.abs(pooled).mean() < 1.0
    correlation = np.corrcoef(hidden[0])
    assert correlation[~np.eye(32, dtype=bool)].max() < 0.95


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="bert_base knows 512 positions, not a sequence of 513"):
        build("bert_base", sequence_length=513)
    with pytest.raises(ValueError, match="hidden size 30 does not divide into 4 heads"):
        BertConfig("odd", layers=1, hidden=30, heads=4, feed_forward=8)
