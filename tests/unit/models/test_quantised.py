"""The quantised networks: integers inside, nearly the numbers of the float model outside."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest

from flexpie_models import build
from tests.unit.models.sessions import open_session, run, shapes

quantised = functools.cache(functools.partial(build, image_size=32))

NAMES = ("mobilenet_v1_int8", "mobilenet_v1_qoperator")


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_nearly_as_the_float_model(name: str) -> None:
    images = np.random.default_rng(5).standard_normal((1, 3, 32, 32), dtype=np.float32)
    [expected] = run(build("mobilenet_v1", image_size=32), {"input": images})
    [actual] = run(quantised(name), {"input": images})
    assert actual.dtype == np.float32
    assert np.corrcoef(expected[0], actual[0])[0, 1] > 0.98


def test_integer_operators_leave_no_room_for_rounding() -> None:
    model = quantised("mobilenet_v1_qoperator")
    images = np.random.default_rng(5).standard_normal((1, 3, 32, 32), dtype=np.float32)
    [plain] = open_session(model, optimised=False).run(None, {"input": images})
    np.testing.assert_array_equal(run(model, {"input": images})[0], plain)


@pytest.mark.recent_onnxruntime
@pytest.mark.parametrize(
    ("name", "operators"),
    [
        (
            "mobilenet_v1_int8",
            {"Conv": 27, "GlobalAveragePool": 1, "Gemm": 1, "QuantizeLinear": 31, "DequantizeLinear": 87},
        ),
        (
            "mobilenet_v1_qoperator",
            {"QLinearConv": 27, "QLinearGlobalAveragePool": 1, "QGemm": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
        ),
    ],
)
def test_operators(name: str, operators: dict[str, int]) -> None:
    counted = Counter(node.op_type for node in quantised(name).graph.node)
    assert counted == operators | {"Flatten": 1}


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_eight_bits_wide(name: str) -> None:
    kind = onnx.TensorProto.INT8 if name == "mobilenet_v1_int8" else onnx.TensorProto.UINT8
    weights = [tensor for tensor in quantised(name).graph.initializer if len(tensor.dims) > 1]
    assert len(weights) == 28
    assert {tensor.data_type for tensor in weights} == {kind}


def test_the_batch_may_be_symbolic() -> None:
    model = build("mobilenet_v1_int8", image_size=32, dynamic=True)
    assert shapes(model.graph.input) == {"input": ["batch", 3, 32, 32]}
    images = np.random.default_rng(5).standard_normal((2, 3, 32, 32), dtype=np.float32)
    assert run(model, {"input": images})[0].shape == (2, 1000)


def test_other_models_are_built_without_onnxruntime() -> None:
    script = (
        "import sys, flexpie_models as f; f.build('resnet18', image_size=32); sys.exit('onnxruntime' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
