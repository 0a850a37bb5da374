"""Footprints: halos that grow backwards, by hand-computed values."""

from __future__ import annotations

import pytest

from flexpie.core.footprint import crossing_tensors, segment_footprints
from flexpie.core.graph import Layer, LayerGraph, Operator
from flexpie.core.region import Interval
from flexpie.core.scheme import GRID_2D, IN_H, OUT_C, REPLICATED, Scheme, single
from flexpie.core.tensor import ElementType, TensorSpec


def convolutions(*windows: tuple[int, int, int], rows: int = 32) -> LayerGraph:
    """A chain of convolutions, 4 channels each; a window is (kernel, stride, pad), square."""
    tensors = {"t0": (1, 4, rows, rows)}
    layers = []
    for index, (kernel, stride, pad) in enumerate(windows):
        source, target = f"t{index}", f"t{index + 1}"
        size = (tensors[source][2] + 2 * pad - kernel) // stride + 1
        tensors[target] = (1, 4, size, size)
        tensors[f"w{index}"] = (4, 4, kernel, kernel)
        attributes = {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (pad,) * 4}
        operator = Operator(f"conv{index}", "Conv", "", 17, (source, f"w{index}"), (target,), attributes)
        layers.append(Layer(operator.name, (operator,)))
    specs = {name: TensorSpec(name, shape, ElementType.FLOAT32) for name, shape in tensors.items()}
    weights = frozenset(name for name in tensors if name.startswith("w"))
    return LayerGraph("chain", ("t0",), (f"t{len(windows)}",), specs, weights, {}, tuple(layers))


def needed_rows(graph: LayerGraph, scheme: Scheme, devices: int) -> list[tuple[int, int]]:
    footprints = segment_footprints(graph, 0, len(graph.layers), scheme, (1.0,) * devices)
    return [(rows.start, rows.stop) for footprint in footprints for rows in [footprint.wanted["t0"][2]]]


def test_halo_of_one_convolution() -> None:
    assert needed_rows(convolutions((3, 1, 1)), IN_H, 4) == [(0, 9), (7, 17), (15, 25), (23, 32)]


def test_halo_grows_over_fused_layers() -> None:
    assert needed_rows(convolutions((3, 1, 1), (3, 1, 1), (3, 1, 1)), IN_H, 4) == [(0, 11), (5, 19), (13, 27), (21, 32)]


def test_stride_scales_rows() -> None:
    # 16 rows of output; device 1 owns [4, 8): rows 2*4-1 .. 2*7-1+3
    assert needed_rows(convolutions((3, 2, 1)), IN_H, 4)[1] == (7, 16)


def test_pointwise_layers_have_no_halo() -> None:
    assert needed_rows(convolutions((1, 1, 0), (1, 1, 0)), IN_H, 4) == [(0, 8), (8, 16), (16, 24), (24, 32)]


def test_channels_need_all_channels_but_only_their_filters() -> None:
    footprints = segment_footprints(convolutions((3, 1, 1)), 0, 1, OUT_C, (1.0, 1.0))
    assert [footprint.wanted["t0"].shape for footprint in footprints] == [(1, 4, 32, 32)] * 2
    assert [footprint.weights["w0"][0] for footprint in footprints] == [Interval(0, 2), Interval(2, 4)]


def test_grid_has_halos_on_both_axes() -> None:
    footprint = segment_footprints(convolutions((3, 1, 1)), 0, 1, GRID_2D, (1.0,) * 4)[2]  # below on the right
    assert footprint.wanted["t0"][2:] == (Interval(15, 32), Interval(15, 32))


@pytest.mark.parametrize(("scheme", "active"), [(REPLICATED, [True, True]), (single(1), [False, True])])
def test_whole_segments(scheme: Scheme, active: list[bool]) -> None:
    footprints = segment_footprints(convolutions((3, 1, 1)), 0, 1, scheme, (1.0, 1.0))
    assert [bool(footprint.parts) for footprint in footprints] == active


def test_several_readers_get_the_bounding_box() -> None:
    chain = convolutions((3, 1, 1), (5, 1, 2))
    add = Operator("add", "Add", "", 17, ("t1", "t2"), ("y",))
    specs = {**chain.tensors, "y": TensorSpec("y", (1, 4, 32, 32), ElementType.FLOAT32)}
    layers = (*chain.layers, Layer("add", (add,)))
    graph = LayerGraph("residual", ("t0",), ("y",), specs, chain.weights, {}, layers)
    middle = segment_footprints(graph, 1, 3, IN_H, (1.0,) * 4)[1]
    assert middle.wanted["t1"][2] == Interval(6, 18)
    assert graph.live_after(2) == ("t1", "t2")
    assert crossing_tensors(graph, 0, 2) == ("t1", "t2")
    assert graph.last_use("y") == 3
