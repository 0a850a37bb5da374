"""Small layer graphs built by hand, and cost models for tests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.graph import AttributeValue, Layer, LayerGraph, Operator
from flexpie.core.tensor import ElementType, Shape, TensorSpec
from flexpie.planner.cost import Array, LayerWork, MessageCosts, Work


@dataclass
class GraphWriter:
    """Writes a layer graph, one operator per layer."""

    tensors: dict[str, TensorSpec] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    layers: list[Layer] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)

    def input(self, *shape: int) -> str:
        """An image that a request brings."""
        self.inputs.append(self._tensor(f"x{len(self.inputs)}", shape))
        return self.inputs[-1]

    def conv(self, image: str, channels: int, kernel: int = 3, stride: int = 1, depthwise: bool = False) -> str:
        """A convolution with the padding that keeps the size at stride 1."""
        batch, read, *size = self.tensors[image].shape
        group = read if depthwise else 1
        channels = read if depthwise else channels
        weight = self._tensor(f"w{len(self.layers)}", (channels, read // group, kernel, kernel))
        self.weights.add(weight)
        pad = kernel // 2
        shape = (batch, channels, *((length + 2 * pad - kernel) // stride + 1 for length in size))
        return self._layer(
            "Conv", (image, weight), shape,
            {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (pad,) * 4, "group": group},
        )  # fmt: skip

    def relu(self, image: str) -> str:
        """An activation as a layer of its own."""
        return self._layer("Relu", (image,), self.tensors[image].shape)

    def add(self, first: str, second: str) -> str:
        """A residual connection."""
        return self._layer("Add", (first, second), self.tensors[first].shape)

    def unknown(self, image: str) -> str:
        """An operator without a rule."""
        return self._layer("Mystery", (image,), self.tensors[image].shape)

    def graph(self, *outputs: str) -> LayerGraph:
        """The finished graph."""
        return LayerGraph(
            "test", tuple(self.inputs), outputs, dict(self.tensors), frozenset(self.weights), {}, tuple(self.layers)
        )

    def _tensor(self, name: str, shape: Sequence[int]) -> str:
        self.tensors[name] = TensorSpec(name, tuple(shape), ElementType.FLOAT32)
        return name

    def _layer(
        self, op_type: str, inputs: tuple[str, ...], shape: Shape, attributes: dict[str, AttributeValue] | None = None
    ) -> str:
        name = f"t{len(self.layers)}"
        operator = Operator(name, op_type, "", 22, inputs, (self._tensor(name, shape),), attributes or {})
        self.layers.append(Layer(name, (operator,)))
        return name


def conv_chain(count: int = 4, size: int = 16, channels: int = 8) -> LayerGraph:
    """Convolutions one after another."""
    writer = GraphWriter()
    image = writer.input(1, channels, size, size)
    for _ in range(count):
        image = writer.conv(image, channels)
    return writer.graph(image)


def residual_net(blocks: int = 2, size: int = 28, channels: int = 32) -> LayerGraph:
    """A stem and residual blocks of two convolutions."""
    writer = GraphWriter()
    image = writer.conv(writer.input(1, 3, size, size), channels)
    for _ in range(blocks):
        image = writer.relu(writer.add(writer.conv(writer.conv(image, channels), channels), image))
    return writer.graph(image)


def cluster_of(
    *speeds: float,
    bandwidth: float = 125e6,
    latency: float = 1e-4,
    topology: Topology = Topology.MESH,
    memory: Sequence[int | None] = (),
) -> Cluster:
    """A cluster of devices with these speeds."""
    budgets = [*memory, *[None] * (len(speeds) - len(memory))]
    devices = tuple(
        Device(f"pi-{index}", f"pi-{index}:50051", speed, budget)
        for index, (speed, budget) in enumerate(zip(speeds, budgets, strict=True))
    )
    return Cluster(devices, Link(bandwidth, latency), topology)


@dataclass(frozen=True)
class RandomCostModel:
    """Random costs that differ by operator, shape and device; exchanges are random too, but more never costs less."""

    devices: int
    seed: int
    equal: bool = False
    """Whether all devices are equally fast."""
    message_seconds: float = 1.0
    byte_seconds: float = 1e-3
    flop_seconds: float = 1e-4

    @property
    def messages(self) -> MessageCosts:
        """See `flexpie.planner.cost.CostModel`."""
        ends = np.full(self.devices + 1, self.message_seconds)
        return MessageCosts(ends, ends, np.full(self.devices + 1, self.byte_seconds), np.zeros(self.devices + 1))

    @property
    def twins(self) -> tuple[int, ...]:
        """See `flexpie.planner.cost.CostModel`."""
        return (0,) * self.devices if self.equal else tuple(range(self.devices))

    def compute_seconds(self, device: int, works: Sequence[LayerWork]) -> Array:
        """See `flexpie.planner.cost.CostModel`."""
        chosen = 0 if self.equal else device
        return np.array([sum(self._seconds(chosen, part) for part in work) for work in works], dtype=np.float64)

    def _seconds(self, device: int, work: Work) -> float:
        random = zlib.crc32(repr((self.seed, device, work.op_type, work.outputs)).encode()) / 2**32
        return (0.2 + random) * (0.5 + self.flop_seconds * (work.flops + work.bytes_read))

    def exchange_seconds(self, nbytes: Array) -> Array:
        """See `flexpie.planner.cost.CostModel`."""
        random = np.random.default_rng(self.seed).random((2, self.devices + 1, self.devices + 1))
        pairs = (nbytes > 0) * random[0] * self.message_seconds + nbytes * random[1] * self.byte_seconds
        seconds: Array = np.maximum(pairs.sum(axis=-1), pairs.sum(axis=-2)).max(axis=-1)
        return seconds
