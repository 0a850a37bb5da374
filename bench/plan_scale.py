"""How planning time grows with the layers of a model and with the devices of a cluster, on one core.

python -m bench.plan_scale [--output FILE.svg]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.plan_times import GIGABIT, imported
from flexpie.core.cluster import Cluster, Device
from flexpie.core.graph import AttributeValue, Layer, LayerGraph, Operator
from flexpie.core.tensor import ElementType, Shape, TensorSpec
from flexpie.planner.planning import make_plan

LAYERS = (125, 250, 500, 1000)
DEVICES = (4, 8, 16, 32, 64)
SPEEDS = (1.0, 0.5, 0.25, 0.4, 0.2, 0.8, 0.3, 0.6)
"""Of the devices of a cluster, relative to a desktop core, over and over with a little less."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    size: int
    """Layers or devices."""
    seconds: float
    """Processor seconds of planning."""
    gap: float | None
    """How much faster a plan could be at most, as far as was proven; 0 for an exact one, None if not known."""


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Draw the points into an SVG or PNG.")
def main(output: Path | None) -> None:
    """Plan residual networks of growing depth on 8 devices, and ResNet-101 on growing clusters of unequal devices."""
    depths = [_point(layers, deep_graph(layers), unequal_cluster(8)) for layers in LAYERS]
    resnet = imported("resnet101")[0].graph
    widths = [_point(devices, resnet, unequal_cluster(devices)) for devices in DEVICES]
    console = Console(width=100)
    console.print(_table("layers (8 devices)", depths), _table("devices (ResNet-101)", widths))
    if output is not None:
        draw(output, depths, widths)


def unequal_cluster(devices: int) -> Cluster:
    """Devices of different speeds on a gigabit network."""
    members = tuple(
        Device(f"device-{at}", f"device-{at}:50051", SPEEDS[at % len(SPEEDS)] * 0.97 ** (at // len(SPEEDS)))
        for at in range(devices)
    )
    return Cluster(members, GIGABIT)


def deep_graph(layers: int) -> LayerGraph:
    """Residual blocks of two convolutions and an addition, in four stages of falling resolution."""
    writer = _Writer()
    image = writer.tensor("image", (1, 16, 112, 112))
    while len(writer.layers) < layers:
        stage = 4 * len(writer.layers) // layers
        channels, size = 32 << stage, 56 >> stage
        if writer.tensors[image].shape[1] != channels:
            image = writer.conv(image, channels, writer.tensors[image].shape[2] // size)
            continue
        branch = writer.conv(writer.conv(image, channels, 1), channels, 1)
        image = writer.operator("Add", (branch, image), writer.tensors[image].shape, {})
    last = writer.layers[layers - 1].operators[0].outputs
    return LayerGraph(f"residual-{layers}", ("image",), last, writer.tensors, frozenset(writer.weights), {},
                      tuple(writer.layers[:layers]))  # fmt: skip


@dataclass
class _Writer:
    tensors: dict[str, TensorSpec] = field(default_factory=dict)
    weights: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    def tensor(self, name: str, shape: Shape) -> str:
        self.tensors[name] = TensorSpec(name, shape, ElementType.FLOAT32)
        return name

    def conv(self, image: str, channels: int, stride: int) -> str:
        """A 3×3 convolution with Relu."""
        _, read, rows, columns = self.tensors[image].shape
        self.weights.append(self.tensor(f"w{len(self.layers)}", (channels, read, 3, 3)))
        attributes: dict[str, AttributeValue] = {"kernel_shape": (3, 3), "strides": (stride,) * 2, "pads": (1,) * 4}
        shape = (1, channels, (rows - 1) // stride + 1, (columns - 1) // stride + 1)
        return self.operator("Conv", (image, self.weights[-1]), shape, attributes)

    def operator(
        self, op_type: str, inputs: tuple[str, ...], shape: Shape, attributes: dict[str, AttributeValue]
    ) -> str:
        name = self.tensor(f"t{len(self.layers)}", shape)
        self.layers.append(Layer(name, (Operator(name, op_type, "", 22, inputs, (name,), attributes),)))
        return name


def _point(size: int, graph: LayerGraph, cluster: Cluster) -> Point:
    start = time.process_time()
    result = make_plan(graph, cluster)
    seconds = time.process_time() - start
    click.echo(f"{graph.name}, {len(cluster.devices)} devices: {seconds:.2f} s", err=True)
    return Point(size, seconds, result.gap)


def _table(name: str, points: Sequence[Point]) -> Table:
    table = Table(name, "seconds", "seconds each", "gap")
    for point in points:
        table.add_row(
            str(point.size),
            f"{point.seconds:.2f}",
            f"{point.seconds / point.size:.4f}",
            "unknown" if point.gap is None else f"{point.gap:.2%}",
        )
    return table


def draw(path: Path, depths: Sequence[Point], widths: Sequence[Point]) -> None:
    """Write a picture of both series, each with the line through the origin and its last point."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, points, label in zip(axes, (depths, widths), ("layers (8 devices)", "devices (ResNet-101)"), strict=True):
        sizes = [point.size for point in points]
        axis.plot([0, sizes[-1]], [0, points[-1].seconds], color="0.7", linestyle="--", label="linear")
        axis.plot(sizes, [point.seconds for point in points], marker="o", label="planning")
        axis.set(xlabel=label, ylabel="processor seconds", xlim=(0, None), ylim=(0, None))
        axis.legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    main()
