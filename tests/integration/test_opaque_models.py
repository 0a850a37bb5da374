"""Models with data-dependent shapes on real daemons, and those that no client could talk to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from flexpie.client import Client
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.worker.engine import run_unsplit
from tests.daemons import local_cluster
from tests.unit.compiler import whole_cases as cases

TIMEOUT = 60.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        local_cluster(tmp_path_factory.mktemp("opaque"), 2) as cluster,
        Client(cluster.address, timeout=TIMEOUT) as found,
    ):
        yield found


def saved(folder: pytest.TempPathFactory, name: str, model: onnx.ModelProto) -> str:
    path = folder.mktemp("models") / f"{name}.onnx"
    onnx.save(model, str(path))
    return str(path)


@pytest.mark.parametrize("name", ["non_zero", "texts", "nested_if", "loop"])
def test_outputs_have_the_shapes_that_the_data_give(
    name: str, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = getattr(cases, name)()
    info = client.load(saved(tmp_path_factory, name, model), scheme="InH")
    shapes = {tensor.name: tensor.shape for tensor in info.outputs}
    if name == "non_zero":
        assert shapes == {"z": (1, 8, 16, 16), "values": (-1,), "where": (4, -1)}
    for seed in range(2):
        x = np.random.default_rng(seed).standard_normal((1, 4, 16, 16)).astype(np.float32)
        expected = run_unsplit(model.SerializeToString(), {"x": x})
        actual = client.infer(info.name, {"x": x})
        assert list(actual) == list(expected)
        for output, array in expected.items():
            assert actual[output].shape == array.shape
            if array.dtype == object:
                assert [str(text) for text in actual[output].flat] == [str(text) for text in array.flat]
            else:
                np.testing.assert_allclose(actual[output], array, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("sequence_input", ErrorCode.UNSUPPORTED_MODEL, "input items .* is a sequence"),
        ("optional_input", ErrorCode.UNSUPPORTED_MODEL, "input perhaps .* is an optional"),
        ("loop_over_sequence", ErrorCode.UNSUPPORTED_MODEL, "output list .* is a sequence"),
        ("narrow_types", ErrorCode.UNSUPPORTED_MODEL, "float8_e4m3fn"),
        ("any_rank_input", ErrorCode.INVALID_SHAPE, "free .* unknown rank"),
    ],
)
def test_a_model_that_no_client_could_talk_to_is_refused(
    name: str, code: ErrorCode, text: str, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(FlexPieError, match=text) as caught:
        client.load(saved(tmp_path_factory, name, getattr(cases, name)()))
    assert caught.value.code is code
