"""The models by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import onnx

from flexpie_models.bert import BERT_BASE, BERT_TINY, build_bert
from flexpie_models.digits import DIGITS_INPUT, load_digits_model
from flexpie_models.efficientnet import build_efficientnet_b0
from flexpie_models.gpt2 import GPT2_BLOCK, GPT2_TINY, build_gpt2
from flexpie_models.graph_builder import Dimension
from flexpie_models.images import ImageInput, imagenet_input
from flexpie_models.mobilenet import build_mobilenet_v1
from flexpie_models.mobilenet_v3 import build_mobilenet_v3
from flexpie_models.quantised import MOBILENET_V1_INT8, MOBILENET_V1_QOPERATOR, build_quantised_mobilenet
from flexpie_models.resnet import RESNET18, RESNET101, build_resnet
from flexpie_models.swin import SWIN_TINY, build_swin
from flexpie_models.unet import UNET, UNET_BILINEAR, build_unet
from flexpie_models.vit import VIT_B16, VIT_TINY, build_vit
from flexpie_models.yolo import build_yolo


class _BuildFromImages(Protocol):
    def __call__(self, *, seed: int, batch: Dimension, image_size: int) -> onnx.ModelProto: ...


class _BuildFromTokens(Protocol):
    def __call__(self, *, seed: int, batch: int, sequence_length: int, dynamic: bool) -> onnx.ModelProto: ...


_IMAGE_MODELS: dict[str, _BuildFromImages] = {
    "mobilenet_v1": build_mobilenet_v1,
    "mobilenet_v3": build_mobilenet_v3,
    "efficientnet_b0": build_efficientnet_b0,
    "yolo_style": build_yolo,
    **{config.name: partial(build_resnet, config) for config in (RESNET18, RESNET101)},
    **{config.name: partial(build_unet, config) for config in (UNET, UNET_BILINEAR)},
    **{config.name: partial(build_vit, config) for config in (VIT_B16, VIT_TINY)},
    **{config.name: partial(build_swin, config) for config in (SWIN_TINY,)},
    **{
        quantisation.name: partial(build_quantised_mobilenet, quantisation)
        for quantisation in (MOBILENET_V1_INT8, MOBILENET_V1_QOPERATOR)
    },
}
_TOKEN_MODELS: dict[str, _BuildFromTokens] = {
    **{config.name: partial(build_bert, config) for config in (BERT_BASE, BERT_TINY)},
    **{config.name: partial(build_gpt2, config) for config in (GPT2_BLOCK, GPT2_TINY)},
}


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, without building it."""

    name: str
    title: str
    source: str
    """Where the architecture comes from."""
    weight_layers: int
    """Operators that multiply by a stored matrix or filter: Conv, ConvTranspose, Gemm, MatMul with an initializer."""
    parameters: int
    """Learnable numbers, as the frameworks count them: without the running statistics of BatchNormalization. For
    quantised models those that are left after BatchNormalization is folded."""
    image: ImageInput | None
    """How to prepare a photograph; None where the model reads no images."""
    trained: bool = False
    """False: the architecture is real, the weights are random, the answers mean nothing."""


_RESNET_PAPER = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
_MOBILENET_PAPER = "Howard et al., MobileNets, 2017"
_UNET_PAPER = "Ronneberger et al., U-Net, MICCAI 2015"
_BERT_PAPER = "Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019"
_VIT_PAPER = "Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021"
_GPT2_PAPER = "Radford et al., Language Models are Unsupervised Multitask Learners, 2019"
_YOLO_INPUT = ImageInput(320, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3)

_Model = ModelDescription
_DESCRIPTIONS = (
    _Model("digits", "Digits CNN", "trained by models/train_digits.py", 5, 47_034, DIGITS_INPUT, trained=True),
    _Model("mobilenet_v1", "MobileNet v1", _MOBILENET_PAPER, 28, 4_231_976, imagenet_input()),
    _Model("mobilenet_v1_int8", "MobileNet v1, int8, QDQ", _MOBILENET_PAPER, 28, 4_221_032, imagenet_input()),
    _Model("mobilenet_v1_qoperator", "MobileNet v1, uint8, QLinear", _MOBILENET_PAPER, 28, 4_221_032, imagenet_input()),
    _Model(
        "mobilenet_v3", "MobileNet v3 large", "Howard et al., MobileNetV3, ICCV 2019", 64, 5_483_032, imagenet_input()
    ),
    _Model(
        "efficientnet_b0", "EfficientNet-B0", "Tan and Le, EfficientNet, ICML 2019", 82, 5_288_548, imagenet_input()
    ),
    _Model("resnet18", "ResNet-18", _RESNET_PAPER, 21, 11_689_512, imagenet_input()),
    _Model("resnet101", "ResNet-101", _RESNET_PAPER, 105, 44_549_160, imagenet_input()),
    _Model("unet", "U-Net, transposed convolutions", _UNET_PAPER, 23, 31_037_698, imagenet_input(256)),
    _Model("unet_bilinear", "U-Net, bilinear Resize", _UNET_PAPER, 19, 17_263_042, imagenet_input(256)),
    _Model("yolo_style", "YOLOv5s", "Ultralytics, YOLOv5 release 5, 2021", 62, 7_276_605, _YOLO_INPUT),
    _Model("vit_b16", "ViT-B/16", _VIT_PAPER, 50, 86_567_656, imagenet_input()),
    _Model("vit_tiny", "ViT-tiny (DeiT-Ti)", "Touvron et al., DeiT, ICML 2021", 50, 5_717_416, imagenet_input()),
    _Model("swin_style", "Swin-T", "Liu et al., Swin Transformer, ICCV 2021", 53, 28_288_354, imagenet_input()),
    _Model("bert_base", "BERT-base", _BERT_PAPER, 73, 109_482_240, None),
    _Model("bert_tiny", "BERT-tiny", _BERT_PAPER, 13, 4_385_920, None),
    _Model("gpt2_block", "GPT-2, 2 of its 12 blocks", _GPT2_PAPER, 8, 53_561_088, None),
    _Model("gpt2_tiny", "GPT-2 of width 128, with logits", _GPT2_PAPER, 8, 6_960_768, None),
)
_BY_NAME = {description.name: description for description in _DESCRIPTIONS}

NAMES: tuple[str, ...] = tuple(_BY_NAME)
"""Every name that `build` and `describe` know."""


def describe(name: str) -> ModelDescription:
    """Facts about a model at its standard size.

    Raises:
        ValueError: there is no model of this name; the text lists the names.
    """
    if name not in _BY_NAME:
        raise ValueError(f"no model {name!r}; choose one of {', '.join(NAMES)}")
    return _BY_NAME[name]


def build(
    name: str,
    *,
    seed: int = 0,
    batch: int = 1,
    sequence_length: int = 128,
    image_size: int | None = None,
    dynamic: bool = False,
) -> onnx.ModelProto:
    """Build a model; equal arguments give equal bytes.

    Models of images read `input` float32 [batch, 3, image_size, image_size]; classifiers yield `logits` [batch, 1000].
    Models of text read `input_ids`, and BERT `attention_mask` and `token_type_ids`, int64 [batch, sequence_length]. An
    argument that an architecture has no use for is ignored; `digits` is trained and fixed, its batch always symbolic.

    Args:
        name: one of `NAMES`.
        seed: selects the random weights.
        batch: images or sequences per inference.
        sequence_length: tokens per sequence, at most 512 for BERT and 1024 for GPT-2.
        image_size: height and width in pixels; without it, that of the description.
        dynamic: leave the batch, and for models of text the sequence length, symbolic.

    Raises:
        ValueError: unknown name, or a size out of range.
    """
    image = describe(name).image
    if image_size is None:
        image_size = image.size if image else 1
    for argument, value in (("batch", batch), ("sequence_length", sequence_length), ("image_size", image_size)):
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}")
    if name == "digits":
        return load_digits_model()
    if name in _TOKEN_MODELS:
        return _TOKEN_MODELS[name](seed=seed, batch=batch, sequence_length=sequence_length, dynamic=dynamic)
    return _IMAGE_MODELS[name](seed=seed, batch="batch" if dynamic else batch, image_size=image_size)
