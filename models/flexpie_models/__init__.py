"""Models to try FlexPie on: standard architectures with random weights, and one small trained classifier."""

from flexpie_models.demo_extra import MissingDemoExtraError
from flexpie_models.digits import held_out_digits, load_digits_model, training_digits
from flexpie_models.images import PHOTOGRAPHS, ImageInput, prepare_image, sample_photograph
from flexpie_models.zoo import NAMES, ModelDescription, build, describe

__all__ = [
    "NAMES",
    "PHOTOGRAPHS",
    "ImageInput",
    "MissingDemoExtraError",
    "ModelDescription",
    "build",
    "describe",
    "held_out_digits",
    "load_digits_model",
    "prepare_image",
    "sample_photograph",
    "training_digits",
]
