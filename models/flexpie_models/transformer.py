"""The layers the transformers share: linear, LayerNormalization, Gelu, embedding, attention over given heads.

Each is written as the PyTorch exporter writes it at opset 17. Parameter names follow `transformers`, `timm` and
torchvision; matrices are stored transposed, [in, out], as the exporter stores them for MatMul.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexpie_models.graph_builder import Dimension, GraphBuilder, Value, scope_of
from flexpie_models.weights import RandomWeights

SYMBOLIC_BATCH = "batch"
SYMBOLIC_SEQUENCE = "sequence"

_BIAS = 0.05


@dataclass(frozen=True)
class TransformerLayers:
    """Appends layers with random weights to a graph."""

    graph: GraphBuilder
    weights: RandomWeights
    epsilon: float
    """What LayerNormalization adds to the variance."""

    def linear(
        self, value: Value, module: str, shape: tuple[int, int], gain: float = 1.0, *, bias: bool = True
    ) -> Value:
        """MatMul with a matrix of `shape` [in, out] and std `gain`/sqrt(in), Add of the bias."""
        matrix = self.weights.normal(f"{module}.weight", shape, gain / math.sqrt(shape[0]))
        product = self.graph.node(
            "MatMul", value, self.graph.weight(f"{module}.weight", matrix), name=f"{scope_of(module)}/MatMul"
        )
        if not bias:
            return product
        # The exporter puts the bias first.
        return self.graph.node("Add", self.bias(module, shape[1]), product, name=f"{scope_of(module)}/Add")

    def bias(self, module: str, size: int, std: float = _BIAS) -> Value:
        """The bias [size] of a layer."""
        return self.graph.weight(f"{module}.bias", self.weights.normal(f"{module}.bias", (size,), std))

    def gemm(
        self, value: Value, module: str, shape: tuple[int, int], gain: float = 1.0, output: str | None = None
    ) -> Value:
        """Linear layer of a matrix [rows, in]: Gemm with a stored [out, in]; `shape` is (in, out)."""
        matrix = self.weights.normal(f"{module}.weight", shape[::-1], gain / math.sqrt(shape[0]))
        return self.graph.node(
            "Gemm",
            value,
            self.graph.weight(f"{module}.weight", matrix),
            self.graph.weight(f"{module}.bias", self.weights.normal(f"{module}.bias", shape[1:], 0.1)),
            name=f"{scope_of(module)}/Gemm",
            output=output,
            alpha=1.0,
            beta=1.0,
            transB=1,
        )

    def layer_norm(self, value: Value, module: str, size: int, output: str | None = None, gain: float = 1.0) -> Value:
        """LayerNormalization of the last axis, which has `size` channels, to about the deviation `gain`."""
        scale = gain * (1.0 + self.weights.normal(f"{module}.weight", (size,), 0.1))
        return self.graph.node(
            "LayerNormalization",
            value,
            self.graph.weight(f"{module}.weight", scale.astype(np.float32)),
            self.bias(module, size, _BIAS * gain),
            name=f"{scope_of(module)}/LayerNormalization",
            output=output,
            axis=-1,
            epsilon=self.epsilon,
        )

    def gelu(self, value: Value, scope: str) -> Value:
        """x * (1 + erf(x / sqrt 2)) / 2."""
        graph = self.graph
        scaled = graph.node("Div", value, graph.scalar(f"{scope}/root2", math.sqrt(2.0)), name=f"{scope}/Div")
        erf = graph.node("Erf", scaled, name=f"{scope}/Erf")
        shifted = graph.node("Add", erf, graph.scalar(f"{scope}/one", 1.0), name=f"{scope}/Add")
        product = graph.node("Mul", value, shifted, name=f"{scope}/Mul")
        return graph.node("Mul", product, graph.scalar(f"{scope}/half", 0.5), name=f"{scope}/Mul_1")

    def feed_forward(
        self, value: Value, modules: tuple[str, str], scope: str, shape: tuple[int, int], gain: float
    ) -> Value:
        """Two linear layers around Gelu; `shape` is (outer, inner) width, `gain` that of the second layer."""
        inner = self.linear(value, modules[0], shape)
        return self.linear(self.gelu(inner, scope), modules[1], shape[::-1], gain)

    def packed_heads(
        self, packed: Value, scope: str, dims: tuple[Dimension, Dimension], heads: int, width: int
    ) -> tuple[Value, Value, Value]:
        """Query, key and value [rows, heads, tokens, width / heads] out of one [rows, tokens, 3 * width].

        The five-dimensional Reshape and Transpose of `timm` and torchvision; `dims` are rows and tokens.
        """
        split = self.graph.reshape(packed, [*dims, 3, heads, width // heads], name=f"{scope}/Reshape")
        parts = self.graph.node("Transpose", split, name=f"{scope}/Transpose", perm=[2, 0, 3, 1, 4])
        query, key, value = (
            self.graph.node(
                "Gather",
                parts,
                self.graph.constant(f"{scope}/index_{index}", np.array(index, np.int64)),
                name=f"{scope}/Gather_{index}",
                axis=0,
            )
            for index in range(3)
        )
        return query, key, value

    def merge_heads(self, context: Value, scope: str, dims: Sequence[Dimension]) -> Value:
        """[rows, heads, tokens, width / heads] → `dims`, usually [rows, tokens, width]."""
        context = self.graph.node("Transpose", context, name=f"{scope}/merge/Transpose", perm=[0, 2, 1, 3])
        return self.graph.reshape(context, dims, name=f"{scope}/merge/Reshape")

    def embedding(self, name: str, rows: int, width: int, ids: Value, std: float = 1.0) -> Value:
        """A table [rows, width] and the Gather that looks `ids` up in it; `name` is the dotted module."""
        table = self.graph.weight(f"{name}.weight", self.weights.normal(f"{name}.weight", (rows, width), std))
        return self.graph.node("Gather", table, ids, name=f"{scope_of(name)}/Gather")

    def position_ids(self, input_ids: Value, name: str, positions: int, sequence: Dimension) -> Value:
        """[1, sequence]: 0, 1, 2, ...; for a symbolic length a Slice of the stored `positions` numbers."""
        ids = np.arange(positions, dtype=np.int64)[None]
        if isinstance(sequence, int):
            return self.graph.weight(name, np.ascontiguousarray(ids[:, :sequence]))
        scope = scope_of(name)
        return self.graph.node(
            "Slice",
            self.graph.weight(name, ids),
            self.graph.ints(f"{scope}/starts", [0]),
            self.graph.extent(input_ids, 1, scope),
            self.graph.ints(f"{scope}/axes", [1]),
            self.graph.ints(f"{scope}/steps", [1]),
            name=f"{scope}/Slice",
        )
