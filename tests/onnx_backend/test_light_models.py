"""AlexNet, DenseNet, Inception, ResNet, ShuffleNet, SqueezeNet, VGG and ZFNet, as the onnx package has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from flexpie.compiler import ImportedModel, import_model
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.plan import Plan
from flexpie.core.scheme import GRID_2D, IN_H, IN_W, OUT_C
from flexpie.planner.planning import make_plan
from tests.conftest import LONG
from tests.onnx_backend.cases import light_models
from tests.onnx_backend.light import close, load_split, random_image, with_random_weights
from tests.random_plans import forced_plan
from tests.splitting import imported, run_unsplit

SMALL = ("inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")
SCHEMES = (IN_H, IN_W, OUT_C, GRID_2D)
"""Along the batch nothing is to be divided: it is one."""
QUICK = ("inception_v2", "shufflenet", "squeezenet")
"""Those that a plain run has time to try with other weights."""
PLANNED = ("shufflenet", "squeezenet")
"""Those that it has time to plan, too."""
NAMES = [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in light_models()]
GIGABIT = Link(bandwidth_bytes_per_second=125e6, latency_seconds=1e-4)


def plans(model: ImportedModel, name: str) -> Iterator[tuple[str, Plan]]:
    """Every scheme and number of devices in a long run; one of each, by the model's number, in a plain one."""
    number = sorted(light_models()).index(name)
    for devices in range(2, 6) if LONG else [2 + number % 4]:
        for index in range(len(SCHEMES)) if LONG else [number % len(SCHEMES)]:
            length = 1 + (number + devices + index) % 2 * 3
            title = f"{SCHEMES[index]} on {devices} devices, {length} layers in a segment"
            yield title, forced_plan(model.graph, devices, SCHEMES[index], length)
        if LONG or name in PLANNED:
            cluster = Cluster(tuple(Device(f"d{at}", f"d{at}:1") for at in range(devices)), GIGABIT)
            yield f"auto on {devices} devices", make_plan(model.graph, cluster).plan


@pytest.mark.parametrize("name", [name for name in light_models() if LONG or name in QUICK])
@pytest.mark.timeout(3600 if LONG else 120)
def test_light_model_with_random_weights(name: str) -> None:
    model = with_random_weights(onnx.load(str(light_models()[name])))
    feeds = random_image(model, seed=1)
    expected = run_unsplit(model, feeds)
    assert expected is not None
    unsplit = imported(model)
    for title, plan in plans(unsplit, name):
        actual = load_split(unsplit, plan).infer(feeds)
        assert close(list(expected.values()), [actual[output] for output in expected]), title


@pytest.mark.parametrize("name", NAMES)
def test_light_model_answers_what_the_suite_expects(name: str) -> None:
    path = light_models()[name]
    model = import_model(path)
    ((given, spec),) = [(name, model.graph.tensors[name]) for name in model.graph.inputs]
    image = (np.arange(spec.size).reshape(spec.shape) / spec.size).astype(np.float32)
    number = sorted(light_models()).index(name)
    outputs = load_split(model, forced_plan(model.graph, 3, SCHEMES[number % len(SCHEMES)])).infer({given: image})
    rtol, atol = tolerances(path)
    for index, output in enumerate(model.graph.outputs):
        np.testing.assert_allclose(outputs[output], expected_output(path, index), rtol=rtol, atol=atol)


def expected_output(path: Path, index: int) -> npt.NDArray[Any]:
    """What ONNX's reference implementation answers."""
    content = path.with_name(f"{path.stem}_output_{index}.pb").read_bytes()
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def tolerances(path: Path) -> tuple[float, float]:
    """Relative and absolute, as the suite has them for this model."""
    for file in path.parent.parent.glob("real/*/data.json"):
        described = json.loads(file.read_text())
        if described["url"].endswith(path.name):
            return described.get("rtol", 1e-3), described.get("atol", 1e-7)
    raise AssertionError(f"the suite does not know {path.name}")
