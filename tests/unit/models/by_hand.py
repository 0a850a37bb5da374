"""Transformers written down from their papers in float64, to compare the models with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from tests.unit.models.sessions import Tensor


class Weights:
    """The initializers of a model as float64, and the layers that read them by the name of their module."""

    def __init__(self, model: onnx.ModelProto, epsilon: float) -> None:
        self._arrays: Mapping[str, Tensor] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self._epsilon = epsilon

    def __getitem__(self, name: str) -> Tensor:
        array = self._arrays[name]
        return array.astype(np.float64) if array.dtype == np.float32 else array

    def linear(self, x: Tensor, module: str, *, transposed: bool = False) -> Tensor:
        """Product with a stored [in, out], or with `transposed` [out, in], plus the bias where there is one."""
        matrix = self[f"{module}.weight"]
        product: Tensor = x @ (matrix.T if transposed else matrix)
        bias = f"{module}.bias"
        return product + self[bias] if bias in self._arrays else product

    def normalise(self, x: Tensor, module: str) -> Tensor:
        """LayerNormalization of the last axis."""
        centred = x - x.mean(-1, keepdims=True)
        result: Tensor = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self._epsilon)
        return result * self[f"{module}.weight"] + self[f"{module}.bias"]

    def feed_forward(self, x: Tensor, modules: tuple[str, str], activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Two linear layers around an activation."""
        return self.linear(activation(self.linear(x, modules[0])), modules[1])


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function of x; erf by Gauss-Legendre quadrature."""
    points, shares = np.polynomial.legendre.leggauss(60)
    t, z = (points + 1.0) / 2.0, x / np.sqrt(2.0)
    erf = z / np.sqrt(np.pi) * (np.exp(-((z[..., None] * t) ** 2)) @ shares)
    result: Tensor = x * 0.5 * (1.0 + erf)
    return result


def gelu_by_tanh(x: Tensor) -> Tensor:
    """The approximation that GPT-2 uses."""
    result: Tensor = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    return result


def attention(parts: Sequence[Tensor], heads: int, addend: Tensor | float = 0.0) -> Tensor:
    """Multi-head attention; `parts` are query, key and value [rows, tokens, width].

    `addend` is added to the scores [rows, heads, tokens, tokens].
    """
    q, k, v = (part.reshape(*part.shape[:2], heads, -1) for part in parts)
    scores = np.einsum("bshd,bthd->bhst", q, k) / np.sqrt(q.shape[-1]) + addend
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    context: Tensor = np.einsum("bhst,bthd->bshd", probabilities, v).reshape(parts[0].shape)
    return context
