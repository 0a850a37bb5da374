"""The example models on real worker processes: every scheme and `auto`, two to five workers, equal to unsplit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest

import flexpie_models
from flexpie import Client
from flexpie.cli.verify import compare_on
from flexpie.reference.comparing import random_inputs
from flexpie.reference.unsplit import UnsplitModel
from tests.daemons import Daemon, start_master, start_worker, write_cluster_file
from tests.onnx_backend.cases import light_models
from tests.onnx_backend.light import with_random_weights
from tests.splitting import imported

MODELS = ("digits", "mobilenet_v1", "resnet18", "resnet101")
SCHEMES = ("auto", "InH", "InW", "OutC", "Grid2D")
COUNTS = (2, 3, 4, 5)
TOLERANCE = 1e-4
QUICK = ("squeezenet",)


def _cases() -> Iterator[object]:
    """All of them; `make test` takes every scheme and count with each model, but not every pair of the large ones."""
    for at, model in enumerate(MODELS):
        for row, scheme in enumerate(SCHEMES):
            for column, count in enumerate(COUNTS):
                quick = model == "digits" or (row + at) % len(COUNTS) == column
                marks = () if quick and (model != "resnet101" or scheme in ("auto", "Grid2D")) else (pytest.mark.slow,)
                yield pytest.param(model, scheme, count, marks=marks, id=f"{model}-{scheme}-{count}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def masters(folder: Path) -> Iterator[dict[int, Daemon]]:
    """Five workers, and for each count a master over the first of them."""
    with ExitStack() as stack:
        workers = [stack.enter_context(start_worker(folder, f"worker-{index}")) for index in range(max(COUNTS))]
        addresses = {f"device-{index}": worker.address for index, worker in enumerate(workers)}
        found = {}
        for count in COUNTS:
            own = folder / f"master-{count}"
            own.mkdir()
            file = write_cluster_file(own, dict(list(addresses.items())[:count]))
            found[count] = stack.enter_context(start_master(own, file))
        yield found


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    """The models, each written once."""
    paths = {name: folder / f"{name}.onnx" for name in MODELS}
    for name, path in paths.items():
        path.write_bytes(flexpie_models.build(name).SerializeToString())
    return paths


@pytest.mark.parametrize(("name", "scheme", "count"), list(_cases()))
def test_split_equals_unsplit(
    name: str, scheme: str, count: int, masters: dict[int, Daemon], files: dict[str, Path]
) -> None:
    shapes: dict[str, tuple[int, ...]] = {"image": (1, 1, 8, 8)} if name == "digits" else {}
    with Client(masters[count].address) as client:
        result = compare_on(client, files[name], scheme, [shapes], runs=1)
    assert result["outputs_equal"]
    assert result["max_abs_error"] <= TOLERANCE
    assert result["devices"] <= count
    if scheme != "auto":
        assert result["devices"] > 1


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(light_models())]
)
def test_light_models_by_auto(name: str, count: int, masters: dict[int, Daemon], folder: Path) -> None:
    """The onnx package's own nine models, with random weights."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        path.write_bytes(with_random_weights(onnx.load(str(light_models()[name]))).SerializeToString())
    with Client(masters[count].address) as client:
        assert compare_on(client, path, "auto", [{}], runs=1)["outputs_equal"]


def test_digits_keep_their_class(masters: dict[int, Daemon], files: dict[str, Path]) -> None:
    images, labels = flexpie_models.held_out_digits()
    expected, _ = UnsplitModel(files["digits"]).run({"image": images})
    with Client(masters[3].address) as client:
        client.load(files["digits"], input_shapes={"image": images.shape}, scheme="Grid2D")
        try:
            actual = client.infer("digits", {"image": images})
        finally:
            client.unload("digits")
    classes = [outputs["probabilities"].argmax(axis=1) for outputs in (expected, actual)]
    assert np.array_equal(classes[0], classes[1])
    assert (classes[1] == labels).mean() >= 0.97


def test_only_input_regions_and_outputs_pass_through_the_master(
    masters: dict[int, Daemon], files: dict[str, Path]
) -> None:
    """ResNet-18 by rows on four devices: the input once with the first convolution's halos, and 1,000 floats."""
    graph = imported(flexpie_models.build("resnet18")).graph
    feeds = random_inputs(graph)
    with Client(masters[4].address) as client:
        client.load(files["resnet18"], scheme="InH")
        try:
            before = client.status()
            client.infer("resnet18", feeds)
            after = client.status()
        finally:
            client.unload("resnet18")
    row_bytes = 3 * 224 * 4
    scattered = after.scattered_bytes - before.scattered_bytes
    assert 224 * row_bytes <= scattered <= (224 + 3 * 6) * row_bytes
    assert after.gathered_bytes - before.gathered_bytes == 1000 * 4
