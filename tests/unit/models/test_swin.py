"""The Swin transformers: windows, rolls and masks against NumPy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from flexpie_models import build
from flexpie_models.swin import SwinConfig, build_swin
from tests.unit.models.by_hand import Weights, attention, gelu
from tests.unit.models.sessions import Tensor, run

SMALL = SwinConfig("swin_small", width=12, blocks=(2, 2), heads=(2, 3), window=3, patch=2)


def from_the_paper(model: onnx.ModelProto, images: Tensor) -> Tensor:
    weights, patch = Weights(model, epsilon=1e-5), SMALL.patch
    count, _, size, _ = images.shape
    cells = images.reshape(count, 3, size // patch, patch, size // patch, patch)
    cells = cells.transpose(0, 2, 4, 1, 3, 5).reshape(count, size // patch, size // patch, 3 * patch * patch)
    matrix = weights["features.0.0.weight"].reshape(SMALL.width, -1)
    x = weights.normalise(cells @ matrix.T + weights["features.0.0.bias"], "features.0.2")
    for stage, blocks in enumerate(SMALL.blocks):
        if stage:
            x = merged(weights, x, f"features.{2 * stage}")
        for index in range(blocks):
            module = f"features.{2 * stage + 1}.{index}"
            normal = weights.normalise(x, f"{module}.norm1")
            x = x + attended(weights, normal, f"{module}.attn", SMALL.heads[stage], shifted=index % 2 == 1)
            modules = (f"{module}.mlp.0", f"{module}.mlp.3")
            x = x + weights.feed_forward(weights.normalise(x, f"{module}.norm2"), modules, gelu)
    return weights.linear(weights.normalise(x, "norm").mean(axis=(1, 2)), "head", transposed=True)


def merged(weights: Weights, x: Tensor, module: str) -> Tensor:
    odd = x.shape[1] % 2
    x = np.pad(x, ((0, 0), (0, odd), (0, odd), (0, 0)))
    parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return weights.linear(weights.normalise(np.concatenate(parts, axis=-1), f"{module}.norm"), f"{module}.reduction")


def attended(weights: Weights, x: Tensor, module: str, heads: int, *, shifted: bool) -> Tensor:
    """Window attention token by token: the windows of the padded and rolled map, one after the other."""
    window, size = SMALL.window, x.shape[1]
    missing = -size % window
    x = np.pad(x, ((0, 0), (0, missing), (0, missing), (0, 0)))
    side = size + missing
    shift = window // 2 if shifted and side > window else 0
    rolled = np.roll(x, (-shift, -shift), axis=(1, 2))
    # Where each place of the rolled map came from, and whether it wrapped around.
    wrapped = np.arange(side) >= side - shift
    table = weights[f"{module}.relative_position_bias_table"]
    result = np.empty_like(rolled)
    rows, columns = (axis.ravel() for axis in np.mgrid[:window, :window])
    down, right = rows[:, None] - rows[None], columns[:, None] - columns[None]
    bias = table[(down + window - 1) * (2 * window - 1) + right + window - 1].transpose(2, 0, 1)
    for top in range(0, side, window):
        for left in range(0, side, window):
            part = (slice(None), slice(top, top + window), slice(left, left + window))
            apart = wrapped[top + rows][:, None] != wrapped[top + rows][None]
            apart |= wrapped[left + columns][:, None] != wrapped[left + columns][None]
            tokens = rolled[part].reshape(len(x), window**2, -1)
            packed = np.split(weights.linear(tokens, f"{module}.qkv"), 3, axis=-1)
            context = attention(packed, heads, bias + np.where(apart, -100.0, 0.0))
            result[part] = weights.linear(context, f"{module}.proj").reshape(rolled[part].shape)
    back: Tensor = np.roll(result, (shift, shift), axis=(1, 2))
    return back[:, :size, :size]


# 12: the windows divide the map, and cover the next stage; 14: both stages are padded, the merging too.
@pytest.mark.parametrize(("batch", "size"), [(2, 12), ("batch", 12), (2, 14), ("batch", 14)])
def test_it_computes_what_the_paper_says(batch: int | str, size: int) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)
    model = build_swin(SMALL, seed=0, batch=batch, image_size=size)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, {"input": images})[0], from_the_paper(model, images), atol=2e-5)


def test_only_maps_that_need_it_are_padded_and_rolled() -> None:
    counted = Counter(node.op_type for node in build("swin_style").graph.node)
    # Three merged neighbourhoods of four; rolls there and back over two axes in five blocks: all but the last stage.
    assert counted["Slice"] == 3 * 8 + 5 * 2 * 2 * 2
    assert counted["Concat"] == 3 + 5 * 2 * 2
    assert counted["Pad"] == 0
    small = Counter(node.op_type for node in build("swin_style", image_size=64).graph.node)
    assert small["Pad"] == 12


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="swin_style needs an image size that is a multiple of 4, not 30"):
        build("swin_style", image_size=30)
    with pytest.raises(ValueError, match="width 20 does not divide into 3 heads"):
        SwinConfig("odd", width=10, blocks=(1, 1), heads=(1, 3))
    with pytest.raises(ValueError, match="2 stages, but heads for 1"):
        SwinConfig("odd", width=10, blocks=(1, 1), heads=(1,))
