"""GPT-2 decoder blocks (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).

The graph is the one the PyTorch exporter writes for `transformers.GPT2Model` or `GPT2LMHeadModel` without a cache at
opset 17: linear layers as Reshape, Gemm, Reshape, heads by Split, the causal mask by Where, Gelu through Tanh.
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
class Gpt2Config:
    """Sizes of a decoder; the inner layer of a block is four times as wide."""

    name: str
    layers: int
    width: int
    heads: int
    vocabulary: int = 50257
    positions: int = 1024
    logits: bool = False
    """Whether the answer is a number per word of the vocabulary, not the last hidden state."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")


GPT2_BLOCK = Gpt2Config("gpt2_block", layers=2, width=768, heads=12)
GPT2_TINY = Gpt2Config("gpt2_tiny", layers=2, width=128, heads=4, logits=True)

_EPSILON = 1e-5

# Measured on random tokens: answers of order one, fp32 rounding about 5e-6; tokens of the last layer correlate at 0.05.
_PACKED_GAIN = 1.5
_BRANCH_GAIN = 0.5


def build_gpt2(
    config: Gpt2Config, *, seed: int, batch: int, sequence_length: int, dynamic: bool = False
) -> onnx.ModelProto:
    """`input_ids`, int64 [batch, sequence] → `last_hidden_state` [batch, sequence, width], or `logits`
    [batch, sequence, vocabulary].

    With `dynamic`, batch and sequence are symbolic and the two lengths are ignored.
    """
    if not dynamic and sequence_length > config.positions:
        raise ValueError(f"{config.name} knows {config.positions} positions, not a sequence of {sequence_length}")
    shape: tuple[Dimension, Dimension] = (SYMBOLIC_BATCH, SYMBOLIC_SEQUENCE) if dynamic else (batch, sequence_length)
    graph = GraphBuilder(config.name)
    decoder = _Decoder(config, graph, TransformerLayers(graph, RandomWeights(seed), _EPSILON), shape)
    input_ids = graph.input("input_ids", np.int64, shape)
    hidden = decoder.embeddings(input_ids)
    mask = decoder.causal_mask(input_ids)
    lowest = graph.scalar("/mask/lowest", float(np.finfo(np.float32).min))
    for layer in range(config.layers):
        hidden = decoder.attention(hidden, (mask, lowest), f"transformer.h.{layer}")
        hidden = decoder.feed_forward(hidden, f"transformer.h.{layer}")
    output = None if config.logits else "last_hidden_state"
    # The matrix behind it holds the word embeddings, whose variance is one.
    gain = config.width**-0.5 if config.logits else 1.0
    hidden = decoder.layers.layer_norm(hidden, "transformer.ln_f", config.width, output, gain)
    if config.logits:
        graph.output(decoder.logits(hidden), np.float32, [*shape, config.vocabulary])
    else:
        graph.output(hidden, np.float32, [*shape, config.width])
    return graph.model()


@dataclass(frozen=True)
class _Decoder:
    """Appends the parts of a decoder to `graph`; `shape` is (batch, sequence), numbers or symbols."""

    config: Gpt2Config
    graph: GraphBuilder
    layers: TransformerLayers
    shape: tuple[Dimension, Dimension]

    def embeddings(self, input_ids: Value) -> Value:
        """Sum of word and position embeddings: [batch, sequence, width]."""
        config = self.config
        words = self.layers.embedding("transformer.wte", config.vocabulary, config.width, input_ids)
        ids = self.layers.position_ids(input_ids, "transformer.position_ids", config.positions, self.shape[1])
        positions = self.layers.embedding("transformer.wpe", config.positions, config.width, ids, std=0.5)
        return self.graph.node("Add", words, positions, name="/transformer/Add")

    def causal_mask(self, input_ids: Value) -> Value:
        """Whether a token sees another: itself and those before it. bool [1, 1, sequence, sequence]."""
        sequence, scope = self.shape[1], "/mask"
        positions = sequence if isinstance(sequence, int) else self.config.positions
        # Stored once, where the exporter stores it once per block.
        mask = self.graph.weight("transformer.bias", np.tri(positions, dtype=np.bool_)[None, None])
        if isinstance(sequence, int):
            return mask
        stop = self.graph.extent(input_ids, 1, scope)
        start, step = self.graph.ints(f"{scope}/start", [0]), self.graph.ints(f"{scope}/step", [1])
        for axis in (2, 3):
            at = self.graph.ints(f"{scope}/axis_{axis}", [axis])
            mask = self.graph.node("Slice", mask, start, stop, at, step, name=f"{scope}/Slice_{axis}")
        return mask

    def attention(self, hidden: Value, mask: tuple[Value, Value], module: str) -> Value:
        """LayerNormalization, masked self-attention, residual sum: [batch, sequence, width].

        `mask` is where to keep the scores, and what stands elsewhere.
        """
        graph, config, scope = self.graph, self.config, f"{scope_of(module)}/attn"
        width = config.width
        normal = self.layers.layer_norm(hidden, f"{module}.ln_1", width)
        packed = self._conv1d(normal, f"{module}.attn.c_attn", (width, 3 * width), _PACKED_GAIN)
        parts = graph.split(packed, [width] * 3, name=f"{scope}/Split", axis=2)
        query = self._heads(parts[0], f"{scope}/query", [0, 2, 1, 3])
        key = self._heads(parts[1], f"{scope}/key", [0, 2, 3, 1])
        value = self._heads(parts[2], f"{scope}/value", [0, 2, 1, 3])
        scores = graph.node("MatMul", query, key, name=f"{scope}/MatMul")
        root = graph.scalar(f"{scope}/root", math.sqrt(width // config.heads))
        scores = graph.node("Div", scores, root, name=f"{scope}/Div")
        keep, lowest = mask
        scores = graph.node("Where", keep, scores, lowest, name=f"{scope}/Where")
        probabilities = graph.node("Softmax", scores, name=f"{scope}/Softmax", axis=-1)
        context = graph.node("MatMul", probabilities, value, name=f"{scope}/MatMul_1")
        merged = self.layers.merge_heads(context, scope, [*self.shape, width])
        projected = self._conv1d(merged, f"{module}.attn.c_proj", (width, width), _BRANCH_GAIN)
        return graph.node("Add", projected, hidden, name=f"{scope_of(module)}/Add")

    def feed_forward(self, hidden: Value, module: str) -> Value:
        """LayerNormalization, two linear layers around Gelu, residual sum: [batch, sequence, width]."""
        width = self.config.width
        normal = self.layers.layer_norm(hidden, f"{module}.ln_2", width)
        inner = self._conv1d(normal, f"{module}.mlp.c_fc", (width, 4 * width))
        inner = self._gelu(inner, f"{scope_of(module)}/mlp/act")
        projected = self._conv1d(inner, f"{module}.mlp.c_proj", (4 * width, width), _BRANCH_GAIN)
        return self.graph.node("Add", hidden, projected, name=f"{scope_of(module)}/Add_1")

    def logits(self, hidden: Value) -> Value:
        """Product with the word embeddings, which input and output share: [batch, sequence, vocabulary]."""
        table = self.graph.node("Transpose", Value("transformer.wte.weight"), name="/lm_head/Transpose", perm=[1, 0])
        return self.graph.node("MatMul", hidden, table, name="/lm_head/MatMul", output="logits")

    def _conv1d(self, value: Value, module: str, shape: tuple[int, int], gain: float = 1.0) -> Value:
        """Linear layer of `shape` (in, out) as `transformers` writes it for GPT-2, on a matrix of all tokens."""
        scope = scope_of(module)
        rows = self.graph.reshape(value, [-1, shape[0]], name=f"{scope}/Reshape")
        matrix = self.layers.weights.normal(f"{module}.weight", shape, gain / math.sqrt(shape[0]))
        product = self.graph.node(
            "Gemm",
            rows,
            self.graph.weight(f"{module}.weight", matrix),
            self.layers.bias(module, shape[1]),
            name=f"{scope}/Gemm",
            alpha=1.0,
            beta=1.0,
        )
        return self.graph.reshape(product, [*self.shape, shape[1]], name=f"{scope}/Reshape_1", like=value)

    def _heads(self, value: Value, scope: str, permutation: list[int]) -> Value:
        """[batch, sequence, width] → [batch, sequence, heads, width / heads], then transposed."""
        dims = [*self.shape, self.config.heads, self.config.width // self.config.heads]
        split = self.graph.reshape(value, dims, name=f"{scope}/Reshape")
        return self.graph.node("Transpose", split, name=f"{scope}/Transpose", perm=permutation)

    def _gelu(self, value: Value, scope: str) -> Value:
        """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2."""
        graph = self.graph
        half = graph.node("Mul", value, graph.scalar(f"{scope}/half", 0.5), name=f"{scope}/Mul")
        cube = graph.node("Pow", value, graph.scalar(f"{scope}/three", 3.0), name=f"{scope}/Pow")
        cube = graph.node("Mul", cube, graph.scalar(f"{scope}/cubic", 0.044715), name=f"{scope}/Mul_1")
        total = graph.node("Add", value, cube, name=f"{scope}/Add")
        scaled = graph.node("Mul", total, graph.scalar(f"{scope}/root", math.sqrt(2 / math.pi)), name=f"{scope}/Mul_2")
        tanh = graph.node("Tanh", scaled, name=f"{scope}/Tanh")
        shifted = graph.node("Add", tanh, graph.scalar(f"{scope}/one", 1.0), name=f"{scope}/Add_1")
        return graph.node("Mul", half, shifted, name=f"{scope}/Mul_3")
