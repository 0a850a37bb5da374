"""What devices did for a request, told by real workers through a real master."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flexpie.cli.main import main
from flexpie.client import AsyncClient, Client, RequestTrace
from flexpie.client.timelines import timeline
from flexpie.core.errors import ErrorCode, FlexPieError
from tests.daemons import LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    models.convolutions(folder / "conv.onnx")
    with local_cluster(folder, 2, "models: [{path: conv.onnx, scheme: InH}]\n") as running:
        with Client(running.address, timeout=TIMEOUT) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready")
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout=TIMEOUT) as found:
        yield found


def traced(client: Client) -> tuple[RequestTrace, float, float]:
    with client.trace("conv") as traces:
        began = time.monotonic()
        client.infer("conv", {"image": models.random_image()})
        return next(traces), began, time.monotonic()


def test_each_device_tells_its_steps_in_order_and_within_the_request(client: Client) -> None:
    trace, began, ended = traced(client)
    assert sorted(trace.spans) == ["a", "b"]
    for spans in trace.spans.values():
        assert [span.what for span in spans if span.activity == "computing"] == ["segment0", "segment1"]
        assert {span.activity for span in spans} >= {"computing", "sending", "receiving"}
        assert all(began <= span.start <= span.stop <= ended for span in spans)
        sent = [span.payload_bytes for span in spans if span.activity == "sending"]
        assert len(sent) == 2
        assert sent[-1] == 5 * 8 * 12 * 4  # its half of the scores, to the master


def test_requests_are_told_one_by_one_and_only_while_somebody_listens(client: Client) -> None:
    image = {"image": models.random_image()}
    client.infer("conv", image)
    with client.trace("conv") as traces:
        for _ in range(3):
            client.infer("conv", image)
        numbers = [next(traces).request_id for _ in range(3)]
    assert numbers == sorted(set(numbers))
    client.infer("conv", image)
    again, _, _ = traced(client)
    assert again.request_id > numbers[-1] + 1


def test_two_listeners_get_the_same(client: Client) -> None:
    with client.trace("conv") as first, client.trace("conv") as second:
        client.infer("conv", {"image": models.random_image()})
        assert next(first) == next(second)


def test_the_asyncio_client_gets_the_same(cluster: LocalCluster, client: Client) -> None:
    async def ask() -> RequestTrace:
        async with AsyncClient(cluster.address, timeout=TIMEOUT) as asking, asking.trace("conv") as traces:
            await asking.infer("conv", {"image": models.random_image()})
            async for trace in traces:
                return trace
        raise AssertionError("no trace")

    with client.trace("conv") as traces:
        found = asyncio.run(ask())
        assert found == next(traces)


def test_the_traces_end_with_the_model(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    client.load(models.convolutions(tmp_path / "short.onnx"), scheme="InH")
    with client.trace("short") as traces:
        client.unload("short")
        assert next(traces, None) is None


def test_requests_of_every_profile_are_told(client: Client, tmp_path: Path) -> None:
    path = models.convolutions_of_any_batch(tmp_path / "open.onnx")
    profiles = [{"image": (batch, *models.IMAGE_SHAPE[1:])} for batch in (1, 2)]
    client.load(path, name="open", profiles=profiles, scheme="InH")
    with client.trace("open") as traces:
        for shapes in profiles:
            client.infer("open", {"image": np.zeros(shapes["image"], np.float32)})
            assert sorted(next(traces).spans) == ["a", "b"]
    client.unload("open")


def test_a_model_that_there_is_not_is_refused(client: Client) -> None:
    with pytest.raises(FlexPieError) as caught, client.trace("nothing"):
        pass
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


def test_the_timeline_has_a_process_for_each_device_and_one_for_the_client(client: Client) -> None:
    trace, began, ended = traced(client)
    events = timeline(trace, (began, ended))["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == ["client", "a", "b"]
    computed = [event for event in events if event.get("cat") == "computing"]
    assert [(event["pid"], event["name"]) for event in computed] == [
        (2, "segment0"), (2, "segment1"), (3, "segment0"), (3, "segment1"),
    ]  # fmt: skip
    request = next(event for event in events if event.get("cat") == "request")
    assert request["ts"] == 0
    assert all(0 <= event["ts"] <= request["dur"] for event in events if "ts" in event)


def test_the_command_writes_it(cluster: LocalCluster, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", models.random_image())
    words = ["infer", "conv", str(tmp_path / "image.npy"), "--master", cluster.address]
    result = CliRunner().invoke(main, [*words, "--trace", str(tmp_path / "trace.json")])
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) > 10
