"""The layer graph: what is planned and cut, without any weight's values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from flexpie.core.boundary import Boundary
from flexpie.core.tensor import TensorSpec

AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
"""Attributes that a rule can read. Tensors and sub-graphs stay with the compiler, in the original node."""

Constant = tuple[int, ...]
"""Values of a small integer tensor that a rule must know (a target shape, axes, pads), flattened."""

Reals = tuple[float, ...]
"""Values of a small floating-point vector that a rule must know (scales of a Resize)."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of the model."""

    name: str
    """Unique in its graph."""
    op_type: str
    domain: str
    """Operator set; the default set is the empty string."""
    version: int
    """Operator-set version that the model imports for `domain`."""
    inputs: tuple[str, ...]
    """Tensor names; the empty string is an omitted optional input."""
    outputs: tuple[str, ...]
    """Tensor names; the empty string is an omitted optional output."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict, hash=False)
    opaque: bool = False
    """Whether it has attributes or types that no rule may reason about (sub-graphs, sequences); runs whole."""
    draws: bool = False
    """Whether it draws random numbers: one device computes it alone, because others would draw others."""


@dataclass(frozen=True)
class Layer:
    """One operator, or a few linked ones that always run together (Conv + BatchNormalization + Relu)."""

    name: str
    operators: tuple[Operator, ...]
    """In an order in which they can run."""

    @cached_property
    def produced(self) -> tuple[str, ...]:
        """Every tensor that an operator of this layer yields."""
        return tuple(name for op in self.operators for name in op.outputs if name)

    @cached_property
    def consumed(self) -> tuple[str, ...]:
        """Every tensor (weights included) that the layer reads from outside itself, once each."""
        own = set(self.produced)
        return tuple(dict.fromkeys(name for op in self.operators for name in op.inputs if name and name not in own))


@dataclass(frozen=True)
class LayerGraph:
    """A model with every shape known. Layers are in an order in which they can run."""

    name: str
    inputs: tuple[str, ...]
    """Tensors that a request brings."""
    outputs: tuple[str, ...]
    """Tensors that a reply brings back; may be inner tensors or inputs as well."""
    tensors: Mapping[str, TensorSpec]
    """Specification of every activation and weight by name."""
    weights: frozenset[str]
    """Names of the tensors whose values the model file holds."""
    constants: Mapping[str, Constant]
    """Known values of small integer weights."""
    layers: tuple[Layer, ...]
    reals: Mapping[str, Reals] = field(default_factory=dict)
    """Known values of small floating-point weights."""
    digest: str = ""
    """SHA-256 (hex) of the model file it came from; plans name it."""
    boundary: Boundary = Boundary.FLOAT32
    """What its float32 tensors are to be between devices. Not a property of the model: whoever plans for it says so
    (`with_boundary`), and it is not in the signature."""
    bound: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """By operator name: what `flexpie.core.rules.bind` made of it."""
    found: dict[Any, dict[Any, Any]] = field(default_factory=dict, init=False, compare=False, repr=False)
    """By what makes operators look the same: what has been found out about them; by a subject, about the graph."""

    def with_boundary(self, boundary: Boundary) -> LayerGraph:
        """The same graph, with all that was found out about it, to be planned with such boundaries."""
        if boundary is self.boundary:
            return self
        graph = replace(self, boundary=boundary)
        object.__setattr__(graph, "bound", self.bound)
        object.__setattr__(graph, "found", self.found)
        return graph

    def sent_itemsize(self, tensor: str, *, between_devices: bool) -> int:
        """Bytes of an element of a tensor in a message between two devices, or from or to the master."""
        spec = self.tensors[tensor]
        return self.boundary.itemsize(spec) if between_devices else spec.itemsize

    def operators(self) -> Iterator[Operator]:
        """Every operator, in running order."""
        for layer in self.layers:
            yield from layer.operators

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Index of the layer that yields each activation; graph inputs are absent."""
        return {name: index for index, layer in enumerate(self.layers) for name in layer.produced}

    @cached_property
    def readers(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the layers that read each activation from outside themselves, ascending."""
        found: dict[str, list[int]] = {}
        for index, layer in enumerate(self.layers):
            for name in layer.consumed:
                if name not in self.weights:
                    found.setdefault(name, []).append(index)
        return {name: tuple(indices) for name, indices in found.items()}

    @cached_property
    def makers(self) -> Mapping[str, str]:
        """Type of the operator that yields each activation; graph inputs are absent."""
        return {name: op.op_type for op in self.operators() for name in op.outputs if name}

    @cached_property
    def first_readers(self) -> Mapping[str, str]:
        """Type of the first operator that reads each tensor."""
        found: dict[str, str] = {}
        for op in self.operators():
            for name in op.inputs:
                found.setdefault(name, op.op_type)
        return found

    def last_use(self, tensor: str) -> int:
        """Index of the last layer that reads `tensor`; ``len(layers)`` for a graph output; -1 when nobody does."""
        if tensor in self.outputs:
            return len(self.layers)
        return self.readers.get(tensor, (-1,))[-1]

    def live_after(self, stop: int) -> tuple[str, ...]:
        """Activations (graph inputs included) known before layer `stop` that some layer from `stop` on, or the
        reply, needs. These are the tensors that cross the cut in front of layer `stop`."""
        return self._live[stop]

    @cached_property
    def _live(self) -> tuple[tuple[str, ...], ...]:
        born = dict.fromkeys(self.inputs, 0) | {name: index + 1 for name, index in self.producer.items()}
        cuts: list[list[str]] = [[] for _ in range(len(self.layers) + 1)]
        for name, first in born.items():
            for cut in range(first, min(self.last_use(name), len(self.layers)) + 1):
                cuts[cut].append(name)
        return tuple(tuple(names) for names in cuts)

    @cached_property
    def signature(self) -> str:
        """SHA-256 (hex) of structure and shapes: equal graphs have equal plans."""
        text = repr(
            (
                self.inputs,
                self.outputs,
                sorted((t.name, t.shape, t.dtype.value, t.opaque) for t in self.tensors.values()),
            )
        )
        body = repr([(op.op_type, op.domain, op.version, op.inputs, op.outputs, sorted(op.attributes.items()))
                     for op in self.operators()])  # fmt: skip
        return hashlib.sha256((text + body).encode()).hexdigest()
