"""Preparing photographs, and what happens without the libraries for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flexpie_models import (
    ImageInput,
    MissingDemoExtraError,
    describe,
    held_out_digits,
    prepare_image,
    sample_photograph,
)

PLAIN = ImageInput(size=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channels=3)


def stripes(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Column c has the value 10 c in all channels."""
    values = np.broadcast_to(np.arange(width) * 10, (height, width))
    return np.repeat(values[:, :, None], 3, axis=2).astype(np.uint8)


def test_an_image_of_the_right_size_is_only_scaled() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    prepared = prepare_image(pixels, PLAIN)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, pixels.transpose(2, 0, 1)[None] / 255.0, rtol=1e-6)


def test_the_centre_is_cut_out_of_a_wide_and_of_a_tall_image() -> None:
    wide = stripes(4, 8)
    expected = np.array([20, 30, 40, 50]) / 255.0
    np.testing.assert_allclose(prepare_image(wide, PLAIN)[0, 0], np.tile(expected, (4, 1)), rtol=1e-6)
    tall = wide.transpose(1, 0, 2)
    np.testing.assert_allclose(prepare_image(tall, PLAIN)[0, 2], np.tile(expected[:, None], (1, 4)), rtol=1e-6)


def test_crop_says_how_much_of_the_shortest_side_is_kept() -> None:
    half = ImageInput(size=4, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3, crop=0.5)
    np.testing.assert_allclose(
        prepare_image(stripes(8, 8), half)[0, 0, 0], np.array([20, 30, 40, 50]) / 255.0, rtol=1e-6
    )


def test_channels_are_normalised_apart() -> None:
    expected = ImageInput(size=2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0), channels=3)
    prepared = prepare_image(np.full((2, 2, 3), 255, np.uint8), expected)
    np.testing.assert_allclose(prepared[0, :, 0, 0], [1.0, 3.0, 0.5], rtol=1e-6)


def test_colours_become_brightness_for_a_model_with_one_channel() -> None:
    digits = describe("digits").image
    assert digits is not None
    prepared = prepare_image(np.full((20, 20, 3), 51, np.uint8), digits)
    assert prepared.shape == (1, 1, 8, 8)
    np.testing.assert_allclose(prepared, 0.2, rtol=1e-6)
    image = held_out_digits()[0][0]
    drawn = np.round(image[0] * 255).astype(np.uint8)
    np.testing.assert_allclose(prepare_image(drawn, digits)[0], image, atol=0.003)


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet18", "resnet101"])
def test_a_photograph_fits_the_classifiers(name: str) -> None:
    expected = describe(name).image
    assert expected is not None
    title, pixels = sample_photograph()
    assert title == "china.jpg"
    assert pixels.shape == (427, 640, 3)
    assert pixels.dtype == np.uint8
    prepared = prepare_image(pixels, expected)
    assert prepared.shape == (1, 3, 224, 224)
    assert prepared.flags.c_contiguous
    assert abs(prepared.mean()) < 1.0
    assert 0.5 < prepared.std() < 2.0


def test_a_path_gives_the_same_as_its_pixels(tmp_path: Path) -> None:
    pixels = stripes(6, 9)
    Image.fromarray(pixels).save(tmp_path / "stripes.png")
    for path in (tmp_path / "stripes.png", str(tmp_path / "stripes.png")):
        np.testing.assert_array_equal(prepare_image(path, PLAIN), prepare_image(pixels, PLAIN))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.txt is not an image that Pillow can read"):
        prepare_image(tmp_path / "notes.txt", PLAIN)
    with pytest.raises(FileNotFoundError):
        prepare_image(tmp_path / "missing.png", PLAIN)
    with pytest.raises(ValueError, match=r"expected uint8 pixels .*, got uint8 \[2, 2, 4\]"):
        prepare_image(np.zeros((2, 2, 4), np.uint8), PLAIN)
    with pytest.raises(ValueError, match=r"no photograph 'cat\.jpg'; choose one of china\.jpg, flower\.jpg"):
        sample_photograph("cat.jpg")


def test_an_impossible_description_is_refused() -> None:
    with pytest.raises(ValueError, match="an image has 1 or 3 channels, not 2"):
        ImageInput(size=8, mean=(0.0, 0.0), std=(1.0, 1.0), channels=2)
    with pytest.raises(ValueError, match="mean and std need 3 values"):
        ImageInput(size=8, mean=(0.0,), std=(1.0, 1.0, 1.0), channels=3)
    with pytest.raises(ValueError, match="must be positive"):
        ImageInput(size=0, mean=(0.0,), std=(1.0,), channels=1)


@pytest.mark.parametrize(("module", "distribution"), [("sklearn", "scikit-learn"), ("PIL", "Pillow")])
def test_a_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, distribution: str
) -> None:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [_Missing(module), *sys.meta_path])
    with pytest.raises(MissingDemoExtraError, match=rf"this needs {distribution}: run  pip install 'flexpie\[demo\]'"):
        sample_photograph()


class _Missing:
    """A finder for which one package is not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
