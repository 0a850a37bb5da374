"""The vision transformers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flexpie_models import build
from flexpie_models.vit import VitConfig, build_vit
from tests.unit.models.by_hand import Weights, attention, gelu
from tests.unit.models.sessions import Tensor, run

SMALL = VitConfig("vit_small", layers=2, width=24, heads=3, patch=8)


def from_the_paper(model: onnx.ModelProto, images: Tensor) -> Tensor:
    weights, patch = Weights(model, epsilon=1e-6), SMALL.patch
    count, _, size, _ = images.shape
    cells = images.reshape(count, 3, size // patch, patch, size // patch, patch)
    cells = cells.transpose(0, 2, 4, 1, 3, 5).reshape(count, -1, 3 * patch * patch)
    matrix = weights["patch_embed.proj.weight"].reshape(SMALL.width, -1)
    patches = cells @ matrix.T + weights["patch_embed.proj.bias"]
    token = np.broadcast_to(weights["cls_token"], (count, 1, SMALL.width))
    x = np.concatenate([token, patches], axis=1) + weights["pos_embed"]
    for block in (f"blocks.{index}" for index in range(SMALL.layers)):
        packed = weights.linear(weights.normalise(x, f"{block}.norm1"), f"{block}.attn.qkv")
        x = x + weights.linear(attention(np.split(packed, 3, axis=-1), SMALL.heads), f"{block}.attn.proj")
        modules = (f"{block}.mlp.fc1", f"{block}.mlp.fc2")
        x = x + weights.feed_forward(weights.normalise(x, f"{block}.norm2"), modules, gelu)
    return weights.linear(weights.normalise(x, "norm")[:, 0], "head", transposed=True)


@pytest.mark.parametrize("batch", [2, "batch"])
def test_it_computes_what_the_paper_says(batch: int | str) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    model = build_vit(SMALL, seed=0, batch=batch, image_size=32)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, {"input": images})[0], from_the_paper(model, images), atol=2e-5)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="vit_tiny needs an image size that is a multiple of 16, not 100"):
        build("vit_tiny", image_size=100)
    with pytest.raises(ValueError, match="width 30 does not divide into 4 heads"):
        VitConfig("odd", layers=1, width=30, heads=4)
