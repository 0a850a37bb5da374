"""Models that clients upload: progress, every way in which a file can be wrong, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest

from flexpie.client import AsyncClient, Client, LoadProgress
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.v1 import master_pb2
from flexpie.wire.v1.master_pb2_grpc import MasterServiceStub
from tests.daemons import LocalCluster, local_cluster, start_master, wait_until, write_cluster_file
from tests.integration import master_models as models

TIMEOUT = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def uploads(folder: Path) -> Path:
    """The temporary folder of the master."""
    (folder / "tmp").mkdir()
    return folder / "tmp"


@pytest.fixture(scope="module")
def cluster(folder: Path, uploads: Path) -> Iterator[LocalCluster]:
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(uploads)
    try:
        with local_cluster(folder, 2, "", ["--max-model-bytes", "1MiB"]) as running:
            with Client(running.address, timeout=TIMEOUT) as client:
                wait_until(client.ready, "devices are connected")
            yield running
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


@pytest.fixture
def client(cluster: LocalCluster, uploads: Path) -> Iterator[Client]:
    """A client; afterwards nothing that it loaded is left."""
    with Client(cluster.address, timeout=TIMEOUT) as opened:
        yield opened
        for model in opened.models():
            opened.unload(model.name)
        wait_until(lambda: not _kept(uploads), "uploads are removed")


def _kept(uploads: Path) -> list[Path]:
    return list(uploads.glob("flexpie-master-*/models/*"))


def _assert_right(client: Client, name: str, path: Path) -> None:
    image = models.random_image()
    expected = models.run_unsplit(path, {"image": image})["scores"]
    np.testing.assert_allclose(client.infer(name, {"image": image})["scores"], expected, atol=1e-4)


def test_a_model_is_uploaded_with_progress_used_and_unloaded(client: Client, tmp_path: Path, uploads: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    progress: list[LoadProgress] = []
    info = client.load(path, scheme="InH", on_progress=progress.append)
    stages = list(dict.fromkeys(item.stage for item in progress))
    every = ["upload", "import", "plan", "compile", "push", "build"]
    assert stages == [stage for stage in every if stage in stages], "in order; a quick stage may pass unseen"
    size = path.stat().st_size
    assert progress[:2] == [LoadProgress("upload", done, size, "bytes") for done in (0, size)]
    assert progress[-1] == LoadProgress("build", 2, 2, "devices")
    assert all(item.done <= item.total or item.unit == "seconds" for item in progress)
    assert info.pushed_bytes > 0
    assert (info.name, info.state, info.devices) == ("conv", "ready", ("a", "b"))
    assert {segment.scheme for segment in info.segments} == {"InH"}
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in info.inputs] == [
        ("image", models.IMAGE_SHAPE, "float32")
    ]
    assert client.models() == [info]
    assert len(_kept(uploads)) == 1, "kept for a restart"
    _assert_right(client, "conv", path)
    client.unload("conv")
    assert client.models() == []
    with pytest.raises(FlexPieError) as caught:
        client.infer("conv", {"image": models.random_image()})
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


def test_a_model_that_workers_have_already_is_not_pushed_again(client: Client, tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    client.load(path, scheme="OutC")
    client.unload("conv")
    assert client.load(path, name="again", scheme="OutC").pushed_bytes == 0
    _assert_right(client, "again", path)


def test_external_data_is_uploaded_with_its_model(client: Client, tmp_path: Path) -> None:
    path = models.convolutions(
        tmp_path / "conv.onnx", save_as_external_data=True, location="conv.weights", size_threshold=0
    )
    assert (tmp_path / "conv.weights").stat().st_size > 0
    client.load(path, scheme="InW")
    _assert_right(client, "conv", path)


def test_open_dimensions_are_given(client: Client, tmp_path: Path) -> None:
    path = models.convolutions_of_any_batch(tmp_path / "conv.onnx")
    with pytest.raises(FlexPieError, match="open dimensions") as caught:
        client.load(path)
    assert caught.value.code is ErrorCode.INVALID_SHAPE
    info = client.load(path, input_shapes={"image": [2, *models.IMAGE_SHAPE[1:]]})
    assert info.inputs[0].shape == (2, 3, 16, 12)


def test_a_name_is_taken_once(client: Client, tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    client.load(path)
    with pytest.raises(FlexPieError) as caught:
        client.load(path)
    assert caught.value.code is ErrorCode.MODEL_EXISTS
    _assert_right(client, "conv", path)


@pytest.mark.parametrize("name", [" ", "a/b", "a\nb", "x" * 129, " a"])
def test_what_is_no_name_is_refused(client: Client, tmp_path: Path, name: str) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    with pytest.raises(FlexPieError, match="is no name for a model") as caught:
        client.load(path, name=name)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "printable" in caught.value.remedy


def test_names_may_be_of_any_script(client: Client, tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    client.load(path, name="größe 日本")
    _assert_right(client, "größe 日本", path)
    client.unload("größe 日本")


def _not_onnx(path: Path) -> None:
    path.write_text("I am not a model.")


def _truncated(path: Path) -> None:
    content = models.convolutions(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _without_its_data(path: Path) -> None:
    models.convolutions(path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").unlink()


def _data_elsewhere(path: Path) -> None:
    models.convolutions(path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../../etc/passwd"
    path.write_bytes(proto.SerializeToString())


def _unknown_opset(path: Path) -> None:
    proto = onnx.load(models.convolutions(path))
    proto.opset_import[0].version = 999
    path.write_bytes(proto.SerializeToString())


def _large(path: Path) -> None:
    path.write_bytes(bytes(2 << 20))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_not_onnx, ErrorCode.INVALID_MODEL),
        (_truncated, ErrorCode.INVALID_MODEL),
        (_empty, ErrorCode.INVALID_MODEL),
        (_without_its_data, ErrorCode.INVALID_MODEL),
        (_data_elsewhere, ErrorCode.INVALID_MODEL),
        (_unknown_opset, ErrorCode.UNSUPPORTED_MODEL),
        (_large, ErrorCode.TOO_LARGE),
    ],
)
def test_a_wrong_file_is_refused_and_leaves_nothing(
    client: Client, tmp_path: Path, make: Callable[[Path], None], code: ErrorCode
) -> None:
    path = tmp_path / "wrong.onnx"
    make(path)
    with pytest.raises(FlexPieError) as caught:
        client.load(path)
    assert caught.value.code is code
    assert caught.value.message
    assert client.models() == []
    assert client.ready()


def test_a_file_that_is_not_there_is_refused_by_the_client(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match=r"absent\.onnx cannot be read: No such file") as caught:
        client.load(tmp_path / "absent.onnx")
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_a_wrong_scheme_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match="Choose one of auto, OutC") as caught:
        client.load(models.convolutions(tmp_path / "conv.onnx"), scheme="diagonal")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ([], "begins with a LoadSpec"),
        ([master_pb2.LoadRequest(chunk=master_pb2.FileChunk(file_name="a"))], "begins with a LoadSpec"),
        ([master_pb2.LoadRequest(spec=master_pb2.LoadSpec(total_bytes=5))], "ended after 0 of 5 bytes"),
        (
            [
                master_pb2.LoadRequest(spec=master_pb2.LoadSpec(total_bytes=5)),
                master_pb2.LoadRequest(chunk=master_pb2.FileChunk(file_name="../evil", data=b"12345")),
            ],
            "no name for a file",
        ),
        (
            [
                master_pb2.LoadRequest(spec=master_pb2.LoadSpec(total_bytes=5)),
                master_pb2.LoadRequest(chunk=master_pb2.FileChunk(file_name="a", data=b"123456")),
            ],
            "More bytes came",
        ),
    ],
)
def test_an_upload_that_breaks_the_rules_is_refused(
    client: Client, requests: list[master_pb2.LoadRequest], text: str
) -> None:
    with grpc.insecure_channel(client.address) as channel, pytest.raises(grpc.RpcError) as caught:
        list(MasterServiceStub(channel).Load(iter(requests), timeout=TIMEOUT))
    assert text in str(caught.value.details())
    assert client.models() == []


def test_the_asyncio_client_is_a_twin(client: Client, tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    image = models.random_image()

    async def use() -> None:
        async with AsyncClient(client.address, timeout=TIMEOUT) as twin:
            assert await twin.ready()
            progress: list[LoadProgress] = []
            info = await twin.load(path, scheme="Grid2D", on_progress=progress.append)
            assert progress[-1].stage == "build"
            assert info == await twin.model("conv")
            assert await twin.ready("conv")
            answers = await asyncio.gather(*(twin.infer("conv", {"image": image}) for _ in range(8)))
            expected = models.run_unsplit(path, {"image": image})["scores"]
            for answer in answers:
                np.testing.assert_allclose(answer["scores"], expected, atol=1e-4)
            assert (await twin.status()).requests_in_flight == 0
            with pytest.raises(FlexPieError) as caught:
                await twin.infer("conv", {"image": image[0]})
            assert caught.value.code is ErrorCode.INVALID_INPUT
            await twin.unload("conv")
            assert await twin.models() == []

    asyncio.run(use())


def test_a_cancelled_call_is_forgotten_everywhere(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    client.load(models.convolutions(tmp_path / "conv.onnx"), scheme="InH")
    image = models.random_image()

    async def give_up() -> None:
        async with AsyncClient(client.address) as twin:
            call = asyncio.create_task(twin.infer("conv", {"image": image}, timeout=TIMEOUT))
            while (await twin.status()).requests_in_flight == 0:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while (await twin.status()).requests_in_flight > 0:
                await asyncio.sleep(0.01)

    cluster.workers["a"].signal(signal.SIGSTOP)
    try:
        asyncio.run(asyncio.wait_for(give_up(), TIMEOUT))
    finally:
        cluster.workers["a"].signal(signal.SIGCONT)
    _assert_right(client, "conv", tmp_path / "conv.onnx")
    wait_until(lambda: "the client gave it up" in cluster.workers["b"].log, "worker b knows that it was cancelled")


def test_without_devices_loading_fails_and_says_so(tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    file = write_cluster_file(tmp_path, {"gone": "127.0.0.1:1"})
    with start_master(tmp_path, file, "--startup-grace", "0") as master, Client(master.address) as client:
        wait_until(lambda: client.status().devices[0].state == "unreachable", "the device is given up")
        with pytest.raises(FlexPieError, match="no device is connected") as caught:
            client.load(path)
        assert caught.value.code is ErrorCode.MODEL_NOT_READY
        assert client.models() == []


def test_a_model_too_large_for_the_workers_is_refused_with_numbers(tmp_path: Path) -> None:
    path = models.large_weight(tmp_path / "large.onnx")
    with local_cluster(tmp_path, 2, worker_arguments=["--memory", "1MiB"]) as small, Client(small.address) as client:
        wait_until(client.ready, "devices are connected")
        with pytest.raises(FlexPieError) as caught:
            client.load(path, input_shapes={"x": [1, 1024]})
        assert caught.value.code is ErrorCode.OUT_OF_MEMORY
        assert any(char.isdigit() for char in caught.value.message)
        assert client.models() == []
