"""The digits model and its data: scikit-learn's 1797 handwritten digits of 8x8 pixels.

`train_digits.py` trains on `training_digits()`; `held_out_digits()` returns the images it never saw.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt
import onnx

from flexpie_models.demo_extra import import_demo
from flexpie_models.images import ImageInput

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

HELD_OUT = 360
"""Images in the held-out part; the other 1437 are for training."""

DIGITS_INPUT = ImageInput(8, mean=(0.0,), std=(1.0,), channels=1)

_SPLIT_SEED = 8
_BRIGHTEST = 16.0


def held_out_digits() -> tuple[Images, Labels]:
    """The images that training never saw: float32 [360, 1, 8, 8] in 0..1, int64 [360] in 0..9.

    Raises:
        MissingDemoExtraError: scikit-learn is not installed.
    """
    images, labels = _shuffled_digits()
    return images[:HELD_OUT], labels[:HELD_OUT]


def training_digits() -> tuple[Images, Labels]:
    """The images to train on: float32 [1437, 1, 8, 8] in 0..1, int64 [1437] in 0..9.

    Raises:
        MissingDemoExtraError: scikit-learn is not installed.
    """
    images, labels = _shuffled_digits()
    return images[HELD_OUT:], labels[HELD_OUT:]


def load_digits_model() -> onnx.ModelProto:
    """The trained model: `image` float32 [N, 1, 8, 8] in 0..1 → `probabilities` float32 [N, 10]."""
    packaged = resources.files("flexpie_models") / "data" / "digits.onnx"
    return onnx.load_model_from_string(packaged.read_bytes())


def _shuffled_digits() -> tuple[Images, Labels]:
    bunch = import_demo("sklearn.datasets").load_digits()
    images = (bunch.images[:, None] / _BRIGHTEST).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    # RandomState is the one generator whose stream NumPy promises never to change; the split rests on it.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    return images[order], labels[order]
