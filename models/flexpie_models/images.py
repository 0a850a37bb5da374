"""From a photograph to the input tensor of an image classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flexpie_models.demo_extra import import_demo

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
"""The photographs that scikit-learn ships."""


@dataclass(frozen=True)
class ImageInput:
    """What a classifier expects: float32 [1, channels, size, size], (x - mean) / std with x in 0..1."""

    size: int
    """Height and width in pixels."""
    mean: tuple[float, ...]
    """One value per channel."""
    std: tuple[float, ...]
    """One value per channel."""
    channels: int
    """3 for red, green, blue; 1 for brightness."""
    crop: float = 1.0
    """Side of the centre crop divided by the shortest side of the resized image."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"an image has 1 or 3 channels, not {self.channels}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one per channel")
        if self.size < 1 or not 0.0 < self.crop <= 1.0:
            raise ValueError(f"size {self.size} must be positive and crop {self.crop} in (0, 1]")


def imagenet_input(size: int = 224) -> ImageInput:
    """Preprocessing of torchvision's ImageNet classifiers: shortest side 8/7 of `size`, then the centre."""
    return ImageInput(size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels=3, crop=0.875)


def prepare_image(image: npt.NDArray[np.uint8] | str | Path, expected: ImageInput) -> npt.NDArray[np.float32]:
    """Resize the shortest side, cut out the centre and normalise: → float32 [1, channels, size, size].

    Args:
        image: uint8 [height, width, 3] or [height, width], or the path of a file Pillow can read.
        expected: what the model wants.

    Raises:
        ValueError: the array is not an image, or Pillow cannot read the file.
        FileNotFoundError: there is no such file.
        MissingDemoExtraError: Pillow is not installed.
    """
    picture = _open(image).convert("RGB" if expected.channels == 3 else "L")
    shortest = round(expected.size / expected.crop)
    scale = shortest / min(picture.size)
    resized = picture.resize(
        (max(shortest, round(picture.width * scale)), max(shortest, round(picture.height * scale))),
        import_demo("PIL.Image").Resampling.BILINEAR,
    )
    left, top = ((extent - expected.size) // 2 for extent in resized.size)
    cropped = resized.crop((left, top, left + expected.size, top + expected.size))
    pixels = np.asarray(cropped, dtype=np.float32).reshape(expected.size, expected.size, expected.channels)
    pixels /= np.float32(255.0)
    normalised = (pixels - np.array(expected.mean, np.float32)) / np.array(expected.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def sample_photograph(name: str = PHOTOGRAPHS[0]) -> tuple[str, npt.NDArray[np.uint8]]:
    """A real photograph to try a model on: its name and its pixels, uint8 [427, 640, 3].

    Raises:
        ValueError: scikit-learn ships no photograph of this name.
        MissingDemoExtraError: scikit-learn or Pillow is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"no photograph {name!r}; choose one of {', '.join(PHOTOGRAPHS)}")
    import_demo("PIL.Image")  # scikit-learn decodes with Pillow and would report its absence less clearly
    pixels: npt.NDArray[np.uint8] = import_demo("sklearn.datasets").load_sample_image(name)
    return name, pixels


def _open(image: npt.NDArray[np.uint8] | str | Path) -> Any:
    pillow = import_demo("PIL.Image")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            got = f"{image.dtype} {list(image.shape)}"
            raise ValueError(f"expected uint8 pixels [height, width, 3] or [height, width], got {got}")
        return pillow.fromarray(image)
    try:
        with pillow.open(image) as opened:
            opened.load()
            return opened.copy()
    except pillow.UnidentifiedImageError as error:
        raise ValueError(f"{image} is not an image that Pillow can read") from error
