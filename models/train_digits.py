"""Train the digits model with NumPy alone and write it as ONNX.

    python models/train_digits.py

Four 3x3 convolutions (the third with stride 2), global average pooling, one linear layer, softmax. Every random
number comes from one seeded generator and BLAS runs on one thread, so a second run on the same machine writes the
same bytes; another BLAS rounds differently and ends at slightly different weights. The number of epochs was chosen
by cross-validation inside the training images; the held-out ones take part in neither.
"""
# ruff: noqa: T201 - a script talks to its user

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from flexpie_models.digits import Labels, held_out_digits, training_digits
from flexpie_models.graph_builder import GraphBuilder

Array = npt.NDArray[np.float32]

OUTPUT = Path(__file__).parent / "flexpie_models" / "data" / "digits.onnx"
REQUIRED_ACCURACY = 0.97
CLASSES = 10
CONVOLUTIONS = ((1, 16, 1), (16, 32, 1), (32, 48, 2), (48, 64, 1))
"""(input channels, output channels, stride), all 3x3 with one pixel of padding."""

_TAPS = [(row, column) for row in range(3) for column in range(3)]


@dataclass
class Parameter:
    """A trained array with its gradient and Adam's two moments."""

    value: Array
    gradient: Array = field(init=False)
    first: Array = field(init=False)
    second: Array = field(init=False)

    def __post_init__(self) -> None:
        self.gradient, self.first, self.second = (np.zeros_like(self.value) for _ in range(3))


class Convolution:
    """3x3 convolution with one pixel of padding, then ReLU, on [N, H, W, in] → [N, ceil(H/stride), ..., out].

    Channels last: then im2col is nine slices side by side, and the convolution one matrix product.
    """

    def __init__(self, draw: np.random.RandomState, channels_in: int, channels_out: int, stride: int) -> None:
        fan_in = 9 * channels_in
        matrix = draw.standard_normal((fan_in, channels_out)) * math.sqrt(2.0 / fan_in)
        self.filters = Parameter(matrix.astype(np.float32))
        self.bias = Parameter(np.zeros(channels_out, np.float32))
        self.stride = stride

    def forward(self, images: Array) -> Array:
        """Keeps the patches and the result for `backward`."""
        _, height, width, channels = images.shape
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        self._padded_shape = padded.shape
        shifted = [
            padded[:, row : row + height : self.stride, column : column + width : self.stride] for row, column in _TAPS
        ]
        patches = np.concatenate(shifted, axis=3)
        self._grid = patches.shape[:3]
        self._patches = patches.reshape(-1, 9 * channels)
        self._result = np.maximum(self._patches @ self.filters.value + self.bias.value, np.float32(0.0))
        output: Array = self._result.reshape(*self._grid, -1)
        return output

    def backward(self, gradient: Array) -> Array:
        """Gradient of the loss by the output → by the input; stores those of the parameters."""
        flat = gradient.reshape(self._result.shape) * (self._result > 0)
        self.filters.gradient = self._patches.T @ flat
        self.bias.gradient = flat.sum(axis=0)
        _, height, width, channels = self._padded_shape
        by_patch = (flat @ self.filters.value.T).reshape(*self._grid, 9, channels)
        by_padded = np.zeros(self._padded_shape, np.float32)
        for tap, (row, column) in enumerate(_TAPS):
            rows = slice(row, row + height - 2, self.stride)
            columns = slice(column, column + width - 2, self.stride)
            by_padded[:, rows, columns] += by_patch[..., tap, :]
        return by_padded[:, 1:-1, 1:-1]


class PooledLinear:
    """Mean over height and width, then a linear layer: [N, H, W, in] → [N, out]."""

    def __init__(self, draw: np.random.RandomState, features: int, classes: int) -> None:
        self.matrix = Parameter((draw.standard_normal((features, classes)) / math.sqrt(features)).astype(np.float32))
        self.bias = Parameter(np.zeros(classes, np.float32))

    def forward(self, values: Array) -> Array:
        """Keeps the means for `backward`."""
        self._shape = values.shape
        self._pooled: Array = values.mean(axis=(1, 2))
        logits: Array = self._pooled @ self.matrix.value + self.bias.value
        return logits

    def backward(self, gradient: Array) -> Array:
        """Gradient of the loss by the output → by the input; stores those of the parameters."""
        self.matrix.gradient = self._pooled.T @ gradient
        self.bias.gradient = gradient.sum(axis=0)
        by_pooled = gradient @ self.matrix.value.T / np.float32(self._shape[1] * self._shape[2])
        return np.broadcast_to(by_pooled[:, None, None, :], self._shape)


class DigitsNetwork:
    """The whole model up to the logits."""

    def __init__(self, draw: np.random.RandomState) -> None:
        self.convolutions = [Convolution(draw, *sizes) for sizes in CONVOLUTIONS]
        self.classifier = PooledLinear(draw, CONVOLUTIONS[-1][1], CLASSES)

    @property
    def parameters(self) -> list[Parameter]:
        """Everything that is trained."""
        filters = [parameter for layer in self.convolutions for parameter in (layer.filters, layer.bias)]
        return [*filters, self.classifier.matrix, self.classifier.bias]

    def forward(self, images: Array) -> Array:
        """[N, 1, 8, 8] → logits [N, 10]."""
        values = images.transpose(0, 2, 3, 1)
        for layer in self.convolutions:
            values = layer.forward(values)
        return self.classifier.forward(values)

    def backward(self, gradient: Array) -> None:
        """Stores the gradient of the loss by every parameter, given that by the logits."""
        gradient = self.classifier.backward(gradient)
        for layer in reversed(self.convolutions):
            gradient = layer.backward(gradient)

    def accuracy(self, images: Array, labels: Labels) -> float:
        """Part of the images whose largest logit is their label's."""
        return float(np.mean(self.forward(images).argmax(axis=1) == labels))


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    def __init__(self, parameters: Sequence[Parameter], decay: float = 1e-2) -> None:
        self._parameters = parameters
        self._decay = decay
        self._steps = 0

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient."""
        self._steps += 1
        for parameter in self._parameters:
            parameter.first += np.float32(0.1) * (parameter.gradient - parameter.first)
            parameter.second += np.float32(0.001) * (parameter.gradient**2 - parameter.second)
            first = parameter.first / np.float32(1.0 - 0.9**self._steps)
            second = parameter.second / np.float32(1.0 - 0.999**self._steps)
            parameter.value -= np.float32(rate) * (first / (np.sqrt(second) + np.float32(1e-8)))
            parameter.value -= np.float32(rate * self._decay) * parameter.value


def cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """Mean of -log softmax(logits)[label], and its gradient by the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -float(np.log(probabilities[rows, labels] + np.float32(1e-12)).mean())
    gradient = probabilities.copy()
    gradient[rows, labels] -= np.float32(1.0)
    return loss, gradient / np.float32(len(labels))


def shifted_by_one(images: Array, draw: np.random.RandomState) -> Array:
    """Every image moved by -1, 0 or 1 pixel in both directions, the border filled with background."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moved = np.empty_like(images)
    for index, (row, column) in enumerate(draw.randint(0, 3, size=(len(images), 2))):
        moved[index] = padded[index, :, row : row + 8, column : column + 8]
    return moved


def train(
    images: Array, labels: Labels, *, epochs: int, seed: int, batch: int = 64, rate: float = 3e-3
) -> DigitsNetwork:
    """Cosine-decayed AdamW over shuffled, shifted batches; prints the mean loss now and then."""
    draw = np.random.RandomState(seed)
    network = DigitsNetwork(draw)
    optimiser = AdamW(network.parameters)
    batches = math.ceil(len(images) / batch)
    # The products are so small that several threads mostly wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        for epoch in range(epochs):
            order = draw.permutation(len(images))
            total = 0.0
            for number in range(batches):
                chosen = order[number * batch : (number + 1) * batch]
                loss, gradient = cross_entropy(network.forward(shifted_by_one(images[chosen], draw)), labels[chosen])
                network.backward(gradient)
                progress = (epoch * batches + number) / (epochs * batches)
                optimiser.step(rate * 0.5 * (1.0 + math.cos(math.pi * progress)))
                total += loss
            if epoch % 10 == 9 or epoch == epochs - 1:
                print(f"epoch {epoch + 1:3d}: loss {total / batches:.4f}")
    return network


def export(network: DigitsNetwork) -> onnx.ModelProto:
    """The trained network as ONNX: `image` [batch, 1, 8, 8] → `probabilities` [batch, 10]."""
    graph = GraphBuilder("digits")
    value = graph.input("image", np.float32, ["batch", 1, 8, 8])
    for number, layer in enumerate(network.convolutions, start=1):
        channels_in, channels_out, stride = CONVOLUTIONS[number - 1]
        filters = layer.filters.value.reshape(3, 3, channels_in, channels_out).transpose(3, 2, 0, 1)
        value = graph.node(
            "Conv",
            value,
            graph.weight(f"conv{number}.weight", np.ascontiguousarray(filters)),
            graph.weight(f"conv{number}.bias", layer.bias.value),
            name=f"/conv{number}/Conv",
            dilations=[1, 1],
            group=1,
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[stride, stride],
        )
        value = graph.node("Relu", value, name=f"/relu{number}/Relu")
    value = graph.node("GlobalAveragePool", value, name="/pool/GlobalAveragePool")
    value = graph.node("Flatten", value, name="/Flatten", axis=1)
    matrix = graph.weight("classifier.weight", np.ascontiguousarray(network.classifier.matrix.value.T))
    bias = graph.weight("classifier.bias", network.classifier.bias.value)
    value = graph.node("Gemm", value, matrix, bias, name="/classifier/Gemm", alpha=1.0, beta=1.0, transB=1)
    value = graph.node("Softmax", value, name="/Softmax", output="probabilities", axis=-1)
    graph.output(value, np.float32, ["batch", CLASSES])
    return graph.model()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, check the accuracy, write the file; returns the exit status."""
    parser = argparse.ArgumentParser(description="Train the digits model and write it as ONNX.")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the images (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and shifts (default: 0)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: the packaged file")
    options = parser.parse_args(arguments)
    network = train(*training_digits(), epochs=options.epochs, seed=options.seed)
    accuracy = network.accuracy(*held_out_digits())
    print(f"held-out accuracy {accuracy:.4f}")
    if accuracy < REQUIRED_ACCURACY:
        print(f"below {REQUIRED_ACCURACY}: nothing written", file=sys.stderr)
        return 1
    model = export(network)
    onnx.checker.check_model(model, full_check=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, options.output)
    print(f"wrote {options.output} ({options.output.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
