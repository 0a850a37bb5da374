"""The models by name."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from flexpie_models.bert import BERT_BASE, BERT_TINY, build_bert
from flexpie_models.digits import DIGITS_INPUT, load_digits_model
from flexpie_models.graph_builder import Dimension
from flexpie_models.images import ImageInput, imagenet_input
from flexpie_models.mobilenet import build_mobilenet_v1
from flexpie_models.resnet import RESNET18, RESNET101, build_resnet

_BERT = {config.name: config for config in (BERT_BASE, BERT_TINY)}
_RESNET = {config.name: config for config in (RESNET18, RESNET101)}


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, without building it."""

    name: str
    title: str
    source: str
    """Where the architecture comes from."""
    weight_layers: int
    """Operators that multiply by a stored matrix or filter: Conv, Gemm, MatMul with an initializer."""
    parameters: int
    """Learnable numbers, as the frameworks count them: without the running statistics of BatchNormalization."""
    image: ImageInput | None
    """How to prepare a photograph; None where the model reads no images."""
    trained: bool = False
    """False: the architecture is real, the weights are random, the answers mean nothing."""


_RESNET_PAPER = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
_BERT_PAPER = "Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019"
_DESCRIPTIONS = (
    ModelDescription(
        "digits", "Digits CNN", "trained by models/train_digits.py", 5, 47_034, DIGITS_INPUT, trained=True
    ),
    ModelDescription(
        "mobilenet_v1", "MobileNet v1", "Howard et al., MobileNets, 2017", 28, 4_231_976, imagenet_input()
    ),
    ModelDescription("resnet18", "ResNet-18", _RESNET_PAPER, 21, 11_689_512, imagenet_input()),
    ModelDescription("resnet101", "ResNet-101", _RESNET_PAPER, 105, 44_549_160, imagenet_input()),
    ModelDescription("bert_base", "BERT-base", _BERT_PAPER, 73, 109_482_240, None),
    ModelDescription("bert_tiny", "BERT-tiny", _BERT_PAPER, 13, 4_385_920, None),
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
    image_size: int = 224,
    dynamic: bool = False,
) -> onnx.ModelProto:
    """Build a model; equal arguments give equal bytes.

    Image classifiers read `input` float32 [batch, 3, image_size, image_size] and yield `logits` [batch, 1000]. The
    encoders read `input_ids`, `attention_mask` and `token_type_ids`, int64 [batch, sequence_length]. An argument that
    an architecture has no use for is ignored; `digits` is trained and fixed, its batch always symbolic.

    Args:
        name: one of `NAMES`.
        seed: selects the random weights.
        batch: images or sequences per inference.
        sequence_length: tokens per sequence, at most 512.
        image_size: height and width in pixels.
        dynamic: leave the batch, and for the encoders the sequence length, symbolic.

    Raises:
        ValueError: unknown name, or a size out of range.
    """
    describe(name)
    for argument, value in (("batch", batch), ("sequence_length", sequence_length), ("image_size", image_size)):
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}")
    if name == "digits":
        return load_digits_model()
    if name in _BERT:
        return build_bert(_BERT[name], seed=seed, batch=batch, sequence_length=sequence_length, dynamic=dynamic)
    images: Dimension = "batch" if dynamic else batch
    if name in _RESNET:
        return build_resnet(_RESNET[name], seed=seed, batch=images, image_size=image_size)
    return build_mobilenet_v1(seed=seed, batch=images, image_size=image_size)
