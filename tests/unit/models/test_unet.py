"""The segmentation networks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from flexpie_models import build
from tests.unit.models.sessions import run, shapes


@pytest.mark.parametrize(
    ("name", "up"), [("unet", {"ConvTranspose": 4}), ("unet_bilinear", {"Resize": 4, "Constant": 4})]
)
def test_operators(name: str, up: dict[str, int]) -> None:
    counted = Counter(node.op_type for node in build(name).graph.node)
    assert counted == {"Conv": 19, "BatchNormalization": 18, "Relu": 18, "MaxPool": 4, "Concat": 4} | up


@pytest.mark.parametrize("name", ["unet", "unet_bilinear"])
def test_the_mask_is_as_large_as_the_image_even_where_halving_loses_a_row(name: str) -> None:
    model = build(name, image_size=54)
    onnx.checker.check_model(model, full_check=True)
    assert shapes(model.graph.output) == {"logits": [1, 2, 54, 54]}
    assert sum(node.op_type == "Pad" for node in model.graph.node) == 2
    images = np.random.default_rng(5).standard_normal((1, 3, 54, 54), dtype=np.float32)
    assert run(model, {"input": images})[0].shape == (1, 2, 54, 54)


def test_skips_carry_every_resolution() -> None:
    inferred = onnx.shape_inference.infer_shapes(build("unet"))
    known = shapes(inferred.graph.value_info)
    joined = [known[node.output[0]] for node in inferred.graph.node if node.op_type == "Concat"]
    assert joined == [[1, 1024, 32, 32], [1, 512, 64, 64], [1, 256, 128, 128], [1, 128, 256, 256]]


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="unet needs images of at least 16 pixels, not 15"):
        build("unet", image_size=15)
