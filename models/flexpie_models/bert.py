"""BERT encoders (Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019).

The graph is the one the PyTorch exporter writes for `transformers.BertModel` at opset 17: linear layers as
MatMul and Add, heads by Reshape and Transpose, Gelu through Erf, the attention mask as a large negative addend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from flexpie_models.graph_builder import Dimension, GraphBuilder, Value, scope_of
from flexpie_models.weights import RandomWeights


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder; `hidden` must be a multiple of `heads`."""

    name: str
    layers: int
    hidden: int
    heads: int
    feed_forward: int
    vocabulary: int = 30522
    positions: int = 512

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden size {self.hidden} does not divide into {self.heads} heads")


BERT_BASE = BertConfig("bert_base", layers=12, hidden=768, heads=12, feed_forward=3072)
BERT_TINY = BertConfig("bert_tiny", layers=2, hidden=128, heads=2, feed_forward=512)

# Untrained attention averages all tokens into one: with every gain at 1 the tokens of the last layer correlate at
# 0.9996, and a row in the wrong place would go unnoticed. Sharper attention and weaker branches keep them apart (0.6).
_QUERY_GAIN = 1.5
_BRANCH_GAIN = 0.3
_BIAS = 0.05

SYMBOLIC_BATCH = "batch"
SYMBOLIC_SEQUENCE = "sequence"


def build_bert(
    config: BertConfig, *, seed: int, batch: int, sequence_length: int, dynamic: bool = False
) -> onnx.ModelProto:
    """`input_ids`, `attention_mask`, `token_type_ids`, int64 [batch, sequence] → `last_hidden_state`
    [batch, sequence, hidden] and `pooler_output` [batch, hidden].

    With `dynamic`, batch and sequence are symbolic and the two lengths are ignored.
    """
    if not dynamic and sequence_length > config.positions:
        raise ValueError(f"{config.name} knows {config.positions} positions, not a sequence of {sequence_length}")
    shape: tuple[Dimension, Dimension] = (SYMBOLIC_BATCH, SYMBOLIC_SEQUENCE) if dynamic else (batch, sequence_length)
    encoder = _Encoder(config, GraphBuilder(config.name), RandomWeights(seed), shape)
    graph = encoder.graph
    input_ids, attention_mask, token_type_ids = (
        graph.input(name, np.int64, shape) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    mask = encoder.additive_mask(attention_mask)
    hidden = encoder.embeddings(input_ids, token_type_ids)
    for layer in range(config.layers):
        module = f"encoder.layer.{layer}"
        output = "last_hidden_state" if layer == config.layers - 1 else None
        attended = encoder.attention(hidden, mask, f"{module}.attention")
        hidden = encoder.feed_forward(attended, module, output)
    graph.output(hidden, np.float32, [*shape, config.hidden])
    graph.output(encoder.pooler(hidden), np.float32, [shape[0], config.hidden])
    return graph.model()


@dataclass(frozen=True)
class _Encoder:
    """Appends the parts of an encoder to `graph`; `shape` is (batch, sequence), numbers or symbols."""

    config: BertConfig
    graph: GraphBuilder
    weights: RandomWeights
    shape: tuple[Dimension, Dimension]

    def additive_mask(self, attention_mask: Value) -> Value:
        """[batch, sequence] of 1 and 0 → [batch, 1, 1, sequence] of 0 and the lowest float."""
        scope = "/attention_mask"
        first = self.graph.node(
            "Unsqueeze", attention_mask, self._ints(f"{scope}/axes", [1]), name=f"{scope}/Unsqueeze"
        )
        second = self.graph.node("Unsqueeze", first, self._ints(f"{scope}/axes_1", [2]), name=f"{scope}/Unsqueeze_1")
        kept = self.graph.node("Cast", second, name=f"{scope}/Cast", to=onnx.TensorProto.FLOAT)
        masked = self.graph.node("Sub", self._float(f"{scope}/one", 1.0), kept, name=f"{scope}/Sub")
        lowest = self._float(f"{scope}/lowest", float(np.finfo(np.float32).min))
        return self.graph.node("Mul", masked, lowest, name=f"{scope}/Mul")

    def embeddings(self, input_ids: Value, token_type_ids: Value) -> Value:
        """Sum of word, token type and position embeddings, normalised: [batch, sequence, hidden]."""
        config, scope = self.config, "/embeddings"
        words = self._embedding("word_embeddings", config.vocabulary, input_ids)
        types = self._embedding("token_type_embeddings", 2, token_type_ids)
        positions = self._embedding("position_embeddings", config.positions, self._position_ids(input_ids))
        total = self.graph.node("Add", words, types, name=f"{scope}/Add")
        total = self.graph.node("Add", total, positions, name=f"{scope}/Add_1")
        return self._layer_norm(total, "embeddings.LayerNorm")

    def attention(self, hidden: Value, mask: Value, module: str) -> Value:
        """Multi-head self-attention, residual sum, LayerNormalization: [batch, sequence, hidden]."""
        graph, scope = self.graph, f"{scope_of(module)}/self"
        square = (self.config.hidden, self.config.hidden)
        query = self._heads(
            self._linear(hidden, f"{module}.self.query", square, _QUERY_GAIN), f"{scope}/query", [0, 2, 1, 3]
        )
        key = self._heads(self._linear(hidden, f"{module}.self.key", square, _QUERY_GAIN), f"{scope}/key", [0, 2, 3, 1])
        value = self._heads(self._linear(hidden, f"{module}.self.value", square), f"{scope}/value", [0, 2, 1, 3])
        root = self._float(f"{scope}/root", math.sqrt(self.config.hidden // self.config.heads))
        scores = graph.node("MatMul", query, key, name=f"{scope}/MatMul")
        scores = graph.node("Div", scores, root, name=f"{scope}/Div")
        scores = graph.node("Add", scores, mask, name=f"{scope}/Add")
        probabilities = graph.node("Softmax", scores, name=f"{scope}/Softmax", axis=-1)
        context = graph.node("MatMul", probabilities, value, name=f"{scope}/MatMul_1")
        context = graph.node("Transpose", context, name=f"{scope}/Transpose", perm=[0, 2, 1, 3])
        merged = self._reshape(context, scope, [self.config.hidden])
        projected = self._linear(merged, f"{module}.output.dense", square, _BRANCH_GAIN)
        total = graph.node("Add", projected, hidden, name=f"{scope_of(module)}/output/Add")
        return self._layer_norm(total, f"{module}.output.LayerNorm")

    def feed_forward(self, hidden: Value, module: str, output: str | None) -> Value:
        """Two linear layers around Gelu, residual sum, LayerNormalization; `output` names the result."""
        size, inner_size = self.config.hidden, self.config.feed_forward
        inner = self._linear(hidden, f"{module}.intermediate.dense", (size, inner_size))
        inner = self._gelu(inner, f"{scope_of(module)}/intermediate")
        projected = self._linear(inner, f"{module}.output.dense", (inner_size, size), _BRANCH_GAIN)
        total = self.graph.node("Add", projected, hidden, name=f"{scope_of(module)}/output/Add")
        return self._layer_norm(total, f"{module}.output.LayerNorm", output)

    def pooler(self, hidden: Value) -> Value:
        """tanh(linear(first token)): [batch, hidden]."""
        size = self.config.hidden
        zero = self.graph.constant("/pooler/Constant", np.array(0, np.int64))
        first = self.graph.node("Gather", hidden, zero, name="/pooler/Gather", axis=1)
        matrix = self.weights.normal("pooler.dense.weight", (size, size), 1.0 / math.sqrt(size))
        dense = self.graph.node(
            "Gemm",
            first,
            self.graph.weight("pooler.dense.weight", matrix),
            self.graph.weight("pooler.dense.bias", self.weights.normal("pooler.dense.bias", (size,), 0.1)),
            name="/pooler/dense/Gemm",
            alpha=1.0,
            beta=1.0,
            transB=1,
        )
        return self.graph.node("Tanh", dense, name="/pooler/activation/Tanh", output="pooler_output")

    def _position_ids(self, input_ids: Value) -> Value:
        """[1, sequence]: 0, 1, 2, ..."""
        ids = np.arange(self.config.positions, dtype=np.int64)[None]
        sequence = self.shape[1]
        if isinstance(sequence, int):
            return self.graph.weight("embeddings.position_ids", np.ascontiguousarray(ids[:, :sequence]))
        scope = "/embeddings"
        return self.graph.node(
            "Slice",
            self.graph.weight("embeddings.position_ids", ids),
            self._ints(f"{scope}/starts", [0]),
            self._extent(input_ids, 1, scope),
            self._ints(f"{scope}/axes", [1]),
            self._ints(f"{scope}/steps", [1]),
            name=f"{scope}/Slice",
        )

    def _embedding(self, name: str, rows: int, ids: Value) -> Value:
        table = self.weights.normal(f"embeddings.{name}.weight", (rows, self.config.hidden), 1.0)
        weight = self.graph.weight(f"embeddings.{name}.weight", table)
        return self.graph.node("Gather", weight, ids, name=f"/embeddings/{name}/Gather")

    def _linear(self, value: Value, module: str, shape: tuple[int, int], gain: float = 1.0) -> Value:
        """MatMul with a matrix of `shape` [in, out] and std `gain`/sqrt(in), Add of the bias."""
        matrix = self.weights.normal(f"{module}.weight", shape, gain / math.sqrt(shape[0]))
        product = self.graph.node(
            "MatMul", value, self.graph.weight(f"{module}.weight", matrix), name=f"{scope_of(module)}/MatMul"
        )
        bias = self.graph.weight(f"{module}.bias", self.weights.normal(f"{module}.bias", shape[1:], _BIAS))
        # The exporter puts the bias first.
        return self.graph.node("Add", bias, product, name=f"{scope_of(module)}/Add")

    def _layer_norm(self, value: Value, module: str, output: str | None = None) -> Value:
        size = self.config.hidden
        scale = 1.0 + self.weights.normal(f"{module}.weight", (size,), 0.1)
        return self.graph.node(
            "LayerNormalization",
            value,
            self.graph.weight(f"{module}.weight", scale.astype(np.float32)),
            self.graph.weight(f"{module}.bias", self.weights.normal(f"{module}.bias", (size,), _BIAS)),
            name=f"{scope_of(module)}/LayerNormalization",
            output=output,
            axis=-1,
            epsilon=1e-12,
        )

    def _gelu(self, value: Value, scope: str) -> Value:
        """x * (1 + erf(x / sqrt 2)) / 2."""
        graph = self.graph
        scaled = graph.node("Div", value, self._float(f"{scope}/root2", math.sqrt(2.0)), name=f"{scope}/Div")
        erf = graph.node("Erf", scaled, name=f"{scope}/Erf")
        shifted = graph.node("Add", erf, self._float(f"{scope}/one", 1.0), name=f"{scope}/Add")
        product = graph.node("Mul", value, shifted, name=f"{scope}/Mul")
        return graph.node("Mul", product, self._float(f"{scope}/half", 0.5), name=f"{scope}/Mul_1")

    def _heads(self, value: Value, scope: str, permutation: list[int]) -> Value:
        """[batch, sequence, hidden] → [batch, sequence, heads, hidden / heads], then transposed."""
        heads = self.config.heads
        split = self._reshape(value, scope, [heads, self.config.hidden // heads])
        return self.graph.node("Transpose", split, name=f"{scope}/Transpose", perm=permutation)

    def _reshape(self, value: Value, scope: str, tail: list[int]) -> Value:
        """Reshape to [batch, sequence, *tail], symbolic extents computed from its own shape."""
        batch, sequence = self.shape
        if isinstance(batch, int) and isinstance(sequence, int):
            shape = self._ints(f"{scope}/shape", [batch, sequence, *tail])
        else:
            extents = [self._extent(value, axis, scope) for axis in (0, 1)]
            extents += [self._ints(f"{scope}/tail_{index}", [size]) for index, size in enumerate(tail)]
            shape = self.graph.node("Concat", *extents, name=f"{scope}/Concat", axis=0)
        return self.graph.node("Reshape", value, shape, name=f"{scope}/Reshape", allowzero=0)

    def _extent(self, value: Value, axis: int, scope: str) -> Value:
        """Length of one axis as an int64 [1]: the Shape, Gather, Unsqueeze chain of the exporter."""
        shape = self.graph.node("Shape", value, name=f"{scope}/Shape_{axis}")
        index = self.graph.constant(f"{scope}/Index_{axis}", np.array(axis, np.int64))
        extent = self.graph.node("Gather", shape, index, name=f"{scope}/Gather_{axis}", axis=0)
        return self.graph.node(
            "Unsqueeze", extent, self._ints(f"{scope}/Axes_{axis}", [0]), name=f"{scope}/Unsqueeze_{axis}"
        )

    def _ints(self, name: str, values: list[int]) -> Value:
        return self.graph.constant(name, np.array(values, np.int64))

    def _float(self, name: str, value: float) -> Value:
        return self.graph.constant(name, np.array(value, np.float32))
