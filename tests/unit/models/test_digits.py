"""The trained digits model and its held-out images."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import onnx
import pytest

from flexpie_models import build, held_out_digits, load_digits_model, training_digits
from tests.unit.models.sessions import run, shapes


def test_the_model_reads_digits_that_it_never_saw() -> None:
    images, labels = held_out_digits()
    [probabilities] = run(load_digits_model(), {"image": images})
    assert np.mean(probabilities.argmax(axis=1) == labels) >= 0.97
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_form_of_the_model() -> None:
    model = build("digits")
    assert shapes(model.graph.input) == {"image": ["batch", 1, 8, 8]}
    assert shapes(model.graph.output) == {"probabilities": ["batch", 10]}
    operators = [node.op_type for node in model.graph.node]
    assert operators == ["Conv", "Relu"] * 4 + ["GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
    assert model.graph.node[4].attribute[-1] == onnx.helper.make_attribute("strides", [2, 2])


def test_the_packaged_file_is_small() -> None:
    packaged = resources.files("flexpie_models") / "data" / "digits.onnx"
    assert len(packaged.read_bytes()) < 1_000_000


def test_the_split_is_complete_disjoint_and_always_the_same() -> None:
    images, labels = held_out_digits()
    others, other_labels = training_digits()
    assert (images.shape, labels.shape) == ((360, 1, 8, 8), (360,))
    assert (others.shape, other_labels.shape) == ((1437, 1, 8, 8), (1437,))
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    assert images.min() == 0.0
    assert images.max() == 1.0
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in others}
    assert set(labels.tolist()) == set(range(10))
    assert hashlib.sha256(labels.tobytes()).hexdigest()[:16] == "4aed4d4fbf844feb"


@pytest.mark.parametrize("count", [1, 3])
def test_the_batch_is_free(count: int) -> None:
    images, _ = held_out_digits()
    model = load_digits_model()
    [together] = run(model, {"image": images[:count]})
    for index in range(count):
        [alone] = run(model, {"image": images[index : index + 1]})
        np.testing.assert_allclose(together[index], alone[0], atol=1e-6)
