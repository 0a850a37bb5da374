"""The encoders, on short sequences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from flexpie_models import build
from flexpie_models.bert import BertConfig, build_bert
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


def by_hand(model: onnx.ModelProto, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """BERT written down from its paper in float64: (last hidden state, pooler output)."""
    weights = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    head = SMALL.hidden // SMALL.heads

    def linear(x: Tensor, module: str) -> Tensor:
        product: Tensor = x @ weights[f"{module}.weight"]
        return product + weights[f"{module}.bias"]

    def normalise(x: Tensor, module: str) -> Tensor:
        centred = x - x.mean(-1, keepdims=True)
        result: Tensor = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return result * weights[f"{module}.weight"] + weights[f"{module}.bias"]

    def erf(x: Tensor) -> Tensor:
        points, shares = np.polynomial.legendre.leggauss(60)
        t = (points + 1.0) / 2.0
        result: Tensor = x / np.sqrt(np.pi) * (np.exp(-((x[..., None] * t) ** 2)) @ shares)
        return result

    sequence = inputs["input_ids"].shape[1]
    x = weights["embeddings.word_embeddings.weight"][inputs["input_ids"]]
    x = x + weights["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    x = normalise(x + weights["embeddings.position_embeddings.weight"][:sequence], "embeddings.LayerNorm")
    for layer in range(SMALL.layers):
        module = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{module}.attention.self.{part}").reshape(*x.shape[:2], SMALL.heads, head)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("bshd,bthd->bhst", q, k) / np.sqrt(head)
        scores = np.where(inputs["attention_mask"][:, None, None] == 1, scores, -np.inf)
        probabilities = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        context = np.einsum("bhst,bthd->bshd", probabilities, v).reshape(x.shape)
        attended = linear(context, f"{module}.attention.output.dense") + x
        attended = normalise(attended, f"{module}.attention.output.LayerNorm")
        inner = linear(attended, f"{module}.intermediate.dense")
        inner = inner * 0.5 * (1.0 + erf(inner / np.sqrt(2.0)))
        x = normalise(linear(inner, f"{module}.output.dense") + attended, f"{module}.output.LayerNorm")
    pooled = np.tanh(x[:, 0] @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
    return x, pooled


def test_it_computes_what_the_paper_says(small: onnx.ModelProto) -> None:
    inputs = feeds(1, 8)
    inputs["attention_mask"][:, 6:] = 0
    for actual, expected in zip(run(small, inputs), by_hand(small, inputs), strict=True):
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
