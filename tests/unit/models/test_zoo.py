"""The convolutional architectures, and what holds for every model."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from flexpie_models import NAMES, build, describe
from tests.unit.models.sessions import learnable_parameters, open_session, rounding, run, shapes, weight_layers

CLASSIFIERS = (
    "mobilenet_v1",
    "mobilenet_v3",
    "efficientnet_b0",
    "resnet18",
    "resnet101",
    "vit_tiny",
    "swin_style",
    pytest.param("vit_b16", marks=pytest.mark.slow),
)

PUBLISHED = {
    "mobilenet_v3": 5_483_032,  # torchvision, mobilenet_v3_large
    "efficientnet_b0": 5_288_548,  # torchvision
    "resnet18": 11_689_512,  # torchvision
    "resnet101": 44_549_160,  # torchvision
    "vit_b16": 86_567_656,  # torchvision
    "vit_tiny": 5_717_416,  # DeiT-Ti
    "swin_style": 28_288_354,  # torchvision, swin_t
    "unet": 31_037_698,  # milesial/Pytorch-UNet, two classes
    "unet_bilinear": 17_263_042,
    "yolo_style": 7_276_605,  # YOLOv5s, release 5
    "bert_base": 109_482_240,  # transformers
}
"""Parameters as the origin of an architecture counts them."""

TEXT = ("bert_base", "bert_tiny", "gpt2_block", "gpt2_tiny")


def slow(*names: str) -> list[object]:
    """All models, these marked slow: they have hundreds of megabytes."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in names else name for name in NAMES]


def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal(shape, dtype=np.float32)


Standard = Callable[[str], onnx.ModelProto]


@pytest.fixture(scope="module")
def standard() -> Standard:
    """A model at its standard size, built once: some take a second."""
    return functools.cache(build)


def test_names() -> None:
    assert set(NAMES) >= set(PUBLISHED) | set(TEXT)
    assert len(NAMES) == len(set(NAMES)) == 18


@pytest.mark.parametrize("name", slow("vit_b16", "gpt2_block"))
def test_the_description_tells_the_truth(standard: Standard, name: str) -> None:
    description = describe(name)
    assert description.name == name
    assert description.weight_layers == weight_layers(standard(name))
    assert description.parameters == learnable_parameters(standard(name))
    assert description.trained == (name == "digits")
    assert (description.image is None) == (name in TEXT)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_architecture_has_its_published_size(name: str) -> None:
    assert describe(name).parameters == PUBLISHED[name]


# The checker copies the weights several times: for BERT-base that is 2 GB, and BERT-tiny is the same code.
@pytest.mark.parametrize("name", slow("vit_b16", "gpt2_block", "bert_base", "resnet101", "unet", "swin_style"))
def test_the_checker_accepts_it(standard: Standard, name: str) -> None:
    onnx.checker.check_model(standard(name), full_check=True)
    assert standard(name).ir_version <= 10
    domains = {"": 17} | ({"com.microsoft": 1} if name == "mobilenet_v1_qoperator" else {})
    assert {opset.domain: opset.version for opset in standard(name).opset_import} == domains
    assert all(node.name for node in standard(name).graph.node)


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        (
            "mobilenet_v1",
            {"Conv": 27, "BatchNormalization": 27, "Clip": 27, "Constant": 54},
        ),
        (
            "mobilenet_v3",
            {"Conv": 46 + 16, "BatchNormalization": 46, "HardSwish": 21, "Relu": 12 + 7, "HardSigmoid": 8, "Mul": 8}
            | {"Add": 10, "Gemm": 2, "GlobalAveragePool": 1 + 8},
        ),
        (
            "efficientnet_b0",
            {"Conv": 49 + 32, "BatchNormalization": 49, "Sigmoid": 49 + 16, "Mul": 49 + 16, "Add": 9}
            | {"GlobalAveragePool": 1 + 16},
        ),
        ("resnet18", {"Conv": 20, "BatchNormalization": 20, "Relu": 17, "Add": 8, "MaxPool": 1}),
        ("resnet101", {"Conv": 104, "BatchNormalization": 104, "Relu": 100, "Add": 33, "MaxPool": 1}),
    ],
)
def test_operators(standard: Standard, name: str, operators: dict[str, int]) -> None:
    counted = Counter(node.op_type for node in standard(name).graph.node)
    assert counted == {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1} | operators


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_inputs_and_outputs(standard: Standard, name: str) -> None:
    assert shapes(standard(name).graph.input) == {"input": [1, 3, 224, 224]}
    assert shapes(standard(name).graph.output) == {"logits": [1, 1000]}


def test_bert_base_has_its_published_shapes(standard: Standard) -> None:
    graph = standard("bert_base").graph
    assert shapes(graph.input) == {key: [1, 128] for key in ("input_ids", "attention_mask", "token_type_ids")}
    assert shapes(graph.output) == {"last_hidden_state": [1, 128, 768], "pooler_output": [1, 768]}
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert sizes["embeddings.word_embeddings.weight"] == [30522, 768]
    assert sizes["encoder.layer.11.intermediate.dense.weight"] == [768, 3072]
    assert sum(node.op_type == "Softmax" for node in graph.node) == 12


def test_feature_maps_shrink_to_a_thirty_second(standard: Standard) -> None:
    for name, channels in (
        ("mobilenet_v1", 1024),
        ("mobilenet_v3", 960),
        ("efficientnet_b0", 1280),
        ("resnet18", 512),
        ("swin_style", 768),
    ):
        inferred = onnx.shape_inference.infer_shapes(standard(name))
        pooled = [node for node in inferred.graph.node if node.op_type == "GlobalAveragePool"][-1]
        assert shapes(inferred.graph.value_info)[pooled.input[0]] == [1, channels, 7, 7]


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v3", "efficientnet_b0", "resnet18"])
def test_a_symbolic_batch_changes_no_number(standard: Standard, name: str) -> None:
    symbolic = build(name, dynamic=True, image_size=64)
    fixed = build(name, batch=2, image_size=64)
    assert shapes(symbolic.graph.input) == {"input": ["batch", 3, 64, 64]}
    assert shapes(symbolic.graph.output) == {"logits": ["batch", 1000]}
    assert shapes(fixed.graph.output) == {"logits": [2, 1000]}
    images = noise(2, 3, 64, 64)
    [expected] = run(fixed, {"input": images})
    np.testing.assert_allclose(run(symbolic, {"input": images})[0], expected, atol=1e-5)
    np.testing.assert_allclose(run(symbolic, {"input": images[1:]})[0], expected[1:], atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_answer_is_of_order_one_hardly_rounded_and_depends_on_every_row(standard: Standard, name: str) -> None:
    session = open_session(standard(name))
    images = noise(1, 3, 224, 224)
    [logits] = session.run(None, {"input": images})
    assert logits.shape == (1, 1000)
    assert 0.5 < logits.std() < 2.0
    assert np.abs(logits).max() < 10.0
    [unfused] = open_session(standard(name), optimised=False).run(None, {"input": images})
    assert np.abs(unfused - logits).max() < 2e-5
    for row in (0, 112, 222):
        changed = images.copy()
        changed[:, :, row] = 0.0
        [other] = session.run(None, {"input": changed})
        assert np.abs(other - logits).max() > 1e-3


@pytest.mark.parametrize("name", ["unet", "unet_bilinear", "yolo_style"])
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_map_is_hardly_rounded_and_depends_on_every_row(name: str, full: bool) -> None:
    image = describe(name).image
    assert image is not None
    size = image.size if full else 64
    model = build(name, image_size=size)
    session = open_session(model)
    images = noise(1, 3, size, size)
    [answer] = session.run(None, {"input": images})
    assert np.isfinite(answer).all()
    assert rounding(model, {"input": images}) < 2e-5
    for row in (0, size // 2, size - 2):
        changed = images.copy()
        changed[:, :, row] = 0.0
        assert np.abs(session.run(None, {"input": changed})[0] - answer).max() > 1e-2


@pytest.mark.parametrize(
    "name", slow("vit_b16", "gpt2_block", "bert_base", "resnet101", "unet", "unet_bilinear", "swin_style")
)
def test_the_seed_decides_the_weights(name: str) -> None:
    if name == "digits":
        pytest.skip("trained, not drawn")
    first, again = (build(name, image_size=32, sequence_length=8).SerializeToString() for _ in range(2))
    assert first == again
    assert build(name, image_size=32, sequence_length=8, seed=1).SerializeToString() != first


def test_static_and_dynamic_form_hold_the_same_weights() -> None:
    for name in ("mobilenet_v1", "bert_tiny"):
        first, again = build(name, seed=1), build(name, seed=1, dynamic=True)
        assert first.graph.initializer[0] == again.graph.initializer[0]


def test_batch_normalization_has_statistics_to_fold(standard: Standard) -> None:
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in standard("resnet18").graph.initializer}
    for module in ("bn1", "layer3.0.bn2", "layer4.0.downsample.1"):
        variance = arrays[f"{module}.running_var"]
        assert variance.min() > 0.0
        assert 0.2 < variance.std() < 3.0
        for part in ("weight", "bias", "running_mean"):
            assert arrays[f"{module}.{part}"].std() > 0.01
        assert np.abs(arrays[f"{module}.weight"]).min() > 0.0


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no model 'vgg'; choose one of digits, .*resnet18"):
        build("vgg")
    with pytest.raises(ValueError, match="no model 'vgg'"):
        describe("vgg")
    for argument in ("batch", "image_size", "sequence_length"):
        with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
            build("resnet18", **{argument: 0})  # type: ignore[arg-type]
