"""The training script: its gradients against finite differences, and a short run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flexpie_models import training_digits
from tests.unit.models.sessions import Tensor, run

SCRIPT = Path(__file__).parents[3] / "models" / "train_digits.py"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The script as a module; it lies beside the package, not in it."""
    spec = importlib.util.spec_from_file_location("train_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "train_digits", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


def slope(loss: Callable[[], float], array: Tensor, index: tuple[int, ...]) -> float:
    """Central difference of `loss` by one element of `array`."""
    kept, step = array[index].copy(), 1e-2
    array[index] = kept + step
    above = loss()
    array[index] = kept - step
    below = loss()
    array[index] = kept
    return (above - below) / (2 * step)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_the_convolution(script: Any, stride: int) -> None:
    draw = np.random.RandomState(0)
    layer = script.Convolution(draw, 2, 3, stride)
    layer.bias.value += 5.0  # keeps ReLU away from its kink, where a difference quotient means nothing
    images = draw.standard_normal((2, 4, 4, 2)).astype(np.float32)
    weight = draw.standard_normal(layer.forward(images).shape).astype(np.float32)

    def loss() -> float:
        return float((layer.forward(images).astype(np.float64) * weight).sum())

    by_images = layer.backward(weight)
    assert by_images.shape == images.shape
    for index in np.ndindex(*images.shape):
        assert by_images[index] == pytest.approx(slope(loss, images, index), abs=2e-3)
    for parameter in (layer.filters, layer.bias):
        for index in np.ndindex(*parameter.value.shape):
            assert parameter.gradient[index] == pytest.approx(slope(loss, parameter.value, index), abs=1e-2)


def test_the_convolution_lets_no_gradient_through_what_relu_cut(script: Any) -> None:
    layer = script.Convolution(np.random.RandomState(0), 1, 1, 1)
    layer.bias.value -= 100.0
    images = np.ones((1, 4, 4, 1), np.float32)
    assert not layer.forward(images).any()
    assert not layer.backward(np.ones((1, 4, 4, 1), np.float32)).any()


def test_gradients_of_the_classifier_and_the_loss(script: Any) -> None:
    draw = np.random.RandomState(1)
    layer = script.PooledLinear(draw, 3, 4)
    values = draw.standard_normal((2, 2, 2, 3)).astype(np.float32)
    labels = np.array([3, 0])

    def loss() -> float:
        return float(script.cross_entropy(layer.forward(values).astype(np.float64), labels)[0])

    by_values = layer.backward(script.cross_entropy(layer.forward(values), labels)[1])
    for array, gradient in ((values, by_values), (layer.matrix.value, layer.matrix.gradient)):
        for index in np.ndindex(*array.shape):
            assert gradient[index] == pytest.approx(slope(loss, array, index), abs=1e-3)


def test_a_short_run_learns_and_exports_what_it_learned(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = (part[:300] for part in training_digits())
    network = script.train(images, labels, epochs=8, seed=0, batch=16)
    assert network.accuracy(images, labels) > 0.5
    assert "epoch   8: loss" in capsys.readouterr().out
    model = script.export(network)
    onnx.checker.check_model(model, full_check=True)
    logits = network.forward(images[:50])
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(model, {"image": images[:50]})[0], expected, atol=1e-5)


def test_training_repeats_itself(script: Any) -> None:
    images, labels = (part[:64] for part in training_digits())
    first, again, other = (
        script.export(script.train(images, labels, epochs=2, seed=seed)).SerializeToString() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_bad_model_is_not_written(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "digits.onnx"
    assert script.main(["--epochs", "1", "--output", str(output)]) == 1
    assert "below 0.97: nothing written" in capsys.readouterr().err
    assert not output.exists()
