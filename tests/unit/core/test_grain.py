"""Grains follow from the rules: heads, pooling windows, convolution groups."""

from __future__ import annotations

import numpy as np

from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import OUT_C, divide, owned_regions
from tests.random_graphs import GraphWriter
from tests.splitting import imported


def attention(tokens: int = 6, heads: int = 4, width: int = 8) -> LayerGraph:
    """Features reshaped to heads and back, as in multi-head attention."""
    writer = GraphWriter(np.random.default_rng(0))
    features = heads * width
    writer.shapes["x"] = (1, tokens, features)
    query = writer.add("MatMul", ["x", writer.weight(features, features)])
    split = writer.add("Reshape", [query, writer.integers(1, tokens, heads, width)], (1, tokens, heads, width))
    turned = writer.add("Transpose", [split], (1, heads, tokens, width), perm=[0, 2, 1, 3])
    scores = writer.add("Softmax", [writer.add("MatMul", [turned, writer.weight(1, heads, width, tokens)])], axis=-1)
    context = writer.add("MatMul", [scores, turned])
    back = writer.add("Transpose", [context], (1, tokens, heads, width), perm=[0, 2, 1, 3])
    joined = writer.add("Reshape", [back, writer.integers(1, tokens, features)], (1, tokens, features))
    output = writer.add("MatMul", [writer.add("Relu", [joined]), writer.weight(features, features)])
    return imported(writer.model(["x"], [output])).graph


def test_features_are_cut_between_heads() -> None:
    graph = attention()
    sequences = [spec for spec in graph.tensors.values() if spec.shape == (1, 6, 32) and spec.name != "x"]
    grains = [spec.grain for spec in sequences]
    assert grains.count((1, 1, 8)) == 3  # the query, and what is joined again; not the last product
    spec = next(spec for spec in sequences if spec.grain)
    owned = owned_regions(OUT_C, spec.shape, (1.0, 1.0, 1.0), spec.grain)
    assert [region[2] for region in owned if region] == [(0, 16), (16, 24), (24, 32)]


def test_pooling_windows_are_not_cut() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 2, 12, 12)
    conv = writer.add("Conv", ["x", writer.weight(2, 2, 3, 3)], pads=[1] * 4)
    graph = imported(writer.model(["x"], [writer.add("MaxPool", [conv], kernel_shape=[2, 3], strides=[2, 3])])).graph
    assert graph.tensors[conv].grain == (1, 1, 2, 3)


def test_overlapping_windows_have_no_grain() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 2, 12, 12)
    conv = writer.add("Conv", ["x", writer.weight(2, 2, 3, 3)], pads=[1] * 4)
    stride = writer.add("Conv", [conv, writer.weight(2, 2, 3, 3)], pads=[1] * 4, strides=[2, 2])
    assert imported(writer.model(["x"], [stride])).graph.tensors[conv].grain == ()


def test_division_in_steps() -> None:
    assert [part.length for part in divide(10, (1, 1), grain=4)] == [8, 2]
    assert [part.length for part in divide(12, (1, 1, 1, 1), grain=4)] == [4, 4, 4, 0]
