"""BERT as the planner of the FlexPie paper sees it.

The paper counts twelve layers, one for each encoder, and its released intermediate representation knows convolutions
only. So an encoder is one convolution here, with as many weights as its linear layers have (12 × 768²), over a column
of tokens: [batch, features, tokens, 1]. Its window is one token high, so that rows need no halo, and twelve columns
wide, of which eleven are padding. Rows are tokens, output channels are features; a grid of rows and columns finds one
column and leaves half of four devices idle. The attention's own products (4 % of the work) are left out, as there.
"""

from __future__ import annotations

from flexpie.core.graph import AttributeValue, Layer, LayerGraph, Operator
from flexpie.core.tensor import ElementType, TensorSpec

TOKENS = 128
HIDDEN = 768
ENCODERS = 12
_WINDOW = 12
"""Weights of an encoder's linear layers over `HIDDEN` squared: four of attention, and two of four times the width."""


def bert_as_convolutions() -> LayerGraph:
    """BERT-base for 128 tokens: 21.7 GFLOP."""
    tensors = {"x": _spec("x", 1, HIDDEN, TOKENS, 1)}
    weights, layers, name = set(), [], "x"
    for encoder in range(ENCODERS):
        result, weight = f"encoder{encoder}", f"encoder{encoder}.weight"
        tensors[result] = _spec(result, 1, HIDDEN, TOKENS, 1)
        tensors[weight] = _spec(weight, HIDDEN, HIDDEN, 1, _WINDOW)
        weights.add(weight)
        attributes: dict[str, AttributeValue] = {
            "kernel_shape": (1, _WINDOW),
            "strides": (1, 1),
            "pads": (0, _WINDOW - 1, 0, 0),
            "group": 1,
        }
        layers.append(Layer(result, (Operator(result, "Conv", "", 17, (name, weight), (result,), attributes),)))
        name = result
    return LayerGraph("bert_as_convolutions", ("x",), (name,), tensors, frozenset(weights), {}, tuple(layers))


def _spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, shape, ElementType.FLOAT32)
