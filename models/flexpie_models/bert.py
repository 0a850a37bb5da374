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
from flexpie_models.transformer import SYMBOLIC_BATCH, SYMBOLIC_SEQUENCE, TransformerLayers
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
_EPSILON = 1e-12


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
    graph = GraphBuilder(config.name)
    encoder = _Encoder(config, graph, TransformerLayers(graph, RandomWeights(seed), _EPSILON), shape)
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
    layers: TransformerLayers
    shape: tuple[Dimension, Dimension]

    def additive_mask(self, attention_mask: Value) -> Value:
        """[batch, sequence] of 1 and 0 → [batch, 1, 1, sequence] of 0 and the lowest float."""
        scope = "/attention_mask"
        first = self.graph.node(
            "Unsqueeze", attention_mask, self.graph.ints(f"{scope}/axes", [1]), name=f"{scope}/Unsqueeze"
        )
        second = self.graph.node(
            "Unsqueeze", first, self.graph.ints(f"{scope}/axes_1", [2]), name=f"{scope}/Unsqueeze_1"
        )
        kept = self.graph.node("Cast", second, name=f"{scope}/Cast", to=onnx.TensorProto.FLOAT)
        masked = self.graph.node("Sub", self.graph.scalar(f"{scope}/one", 1.0), kept, name=f"{scope}/Sub")
        lowest = self.graph.scalar(f"{scope}/lowest", float(np.finfo(np.float32).min))
        return self.graph.node("Mul", masked, lowest, name=f"{scope}/Mul")

    def embeddings(self, input_ids: Value, token_type_ids: Value) -> Value:
        """Sum of word, token type and position embeddings, normalised: [batch, sequence, hidden]."""
        config, scope = self.config, "/embeddings"
        words = self._embedding("word_embeddings", config.vocabulary, input_ids)
        types = self._embedding("token_type_embeddings", 2, token_type_ids)
        ids = self.layers.position_ids(input_ids, "embeddings.position_ids", config.positions, self.shape[1])
        positions = self._embedding("position_embeddings", config.positions, ids)
        total = self.graph.node("Add", words, types, name=f"{scope}/Add")
        total = self.graph.node("Add", total, positions, name=f"{scope}/Add_1")
        return self.layers.layer_norm(total, "embeddings.LayerNorm", config.hidden)

    def attention(self, hidden: Value, mask: Value, module: str) -> Value:
        """Multi-head self-attention, residual sum, LayerNormalization: [batch, sequence, hidden]."""
        graph, scope = self.graph, f"{scope_of(module)}/self"
        square = (self.config.hidden, self.config.hidden)
        query = self._heads(
            self.layers.linear(hidden, f"{module}.self.query", square, _QUERY_GAIN), f"{scope}/query", [0, 2, 1, 3]
        )
        key = self._heads(
            self.layers.linear(hidden, f"{module}.self.key", square, _QUERY_GAIN), f"{scope}/key", [0, 2, 3, 1]
        )
        value = self._heads(self.layers.linear(hidden, f"{module}.self.value", square), f"{scope}/value", [0, 2, 1, 3])
        root = self.graph.scalar(f"{scope}/root", math.sqrt(self.config.hidden // self.config.heads))
        scores = graph.node("MatMul", query, key, name=f"{scope}/MatMul")
        scores = graph.node("Div", scores, root, name=f"{scope}/Div")
        scores = graph.node("Add", scores, mask, name=f"{scope}/Add")
        probabilities = graph.node("Softmax", scores, name=f"{scope}/Softmax", axis=-1)
        context = graph.node("MatMul", probabilities, value, name=f"{scope}/MatMul_1")
        context = graph.node("Transpose", context, name=f"{scope}/Transpose", perm=[0, 2, 1, 3])
        merged = graph.reshape(context, [*self.shape, self.config.hidden], name=f"{scope}/Reshape")
        projected = self.layers.linear(merged, f"{module}.output.dense", square, _BRANCH_GAIN)
        total = graph.node("Add", projected, hidden, name=f"{scope_of(module)}/output/Add")
        return self.layers.layer_norm(total, f"{module}.output.LayerNorm", self.config.hidden)

    def feed_forward(self, hidden: Value, module: str, output: str | None) -> Value:
        """Two linear layers around Gelu, residual sum, LayerNormalization; `output` names the result."""
        size = self.config.hidden
        modules = (f"{module}.intermediate.dense", f"{module}.output.dense")
        scope = f"{scope_of(module)}/intermediate"
        projected = self.layers.feed_forward(
            hidden, modules, scope, (size, self.config.feed_forward), gain=_BRANCH_GAIN
        )
        total = self.graph.node("Add", projected, hidden, name=f"{scope_of(module)}/output/Add")
        return self.layers.layer_norm(total, f"{module}.output.LayerNorm", size, output)

    def pooler(self, hidden: Value) -> Value:
        """tanh(linear(first token)): [batch, hidden]."""
        size = self.config.hidden
        zero = self.graph.constant("/pooler/Constant", np.array(0, np.int64))
        first = self.graph.node("Gather", hidden, zero, name="/pooler/Gather", axis=1)
        dense = self.layers.gemm(first, "pooler.dense", (size, size))
        return self.graph.node("Tanh", dense, name="/pooler/activation/Tanh", output="pooler_output")

    def _embedding(self, name: str, rows: int, ids: Value) -> Value:
        return self.layers.embedding(f"embeddings.{name}", rows, self.config.hidden, ids)

    def _heads(self, value: Value, scope: str, permutation: list[int]) -> Value:
        """[batch, sequence, hidden] → [batch, sequence, heads, hidden / heads], then transposed."""
        heads = self.config.heads
        dims = [*self.shape, heads, self.config.hidden // heads]
        split = self.graph.reshape(value, dims, name=f"{scope}/Reshape")
        return self.graph.node("Transpose", split, name=f"{scope}/Transpose", perm=permutation)
