"""Calibration and exchange traces with real workers: that they come to an end and what they write, not the times."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from flexpie.cli.main import main
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.calibration_file import calibration_path, write_calibration
from flexpie.master.cluster_file import read_cluster_file
from flexpie.traces import workers as connecting
from flexpie.traces.calibrating import Effort, calibrate
from flexpie.traces.samples import ExchangeSample
from flexpie.traces.store import read_traces
from flexpie.traces.workers import Workers
from tests.daemons import Daemon, start_worker, write_cluster_file

QUICK = Effort(kernel_batch_seconds=0.002, kernel_batches=1, batch_seconds=0.002, batches=1)


@pytest.fixture(scope="module")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two workers, calibrated in a hurry."""
    folder = tmp_path_factory.mktemp("workers")
    with start_worker(folder, "a") as first, start_worker(folder, "b", "--threads", "2") as second:
        yield _calibrated(folder, first, second)


def _calibrated(folder: Path, first: Daemon, second: Daemon) -> Path:
    path = write_cluster_file(folder, {"a": first.address, "b": second.address})
    steps: list[tuple[int, int]] = []

    async def measure() -> None:
        async with Workers(read_cluster_file(path).cluster) as workers:
            found = await calibrate(workers, "today", lambda _, done, total: steps.append((done, total)), QUICK)
        write_calibration(calibration_path(path), found)

    asyncio.run(measure())
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    return path


def test_every_rate_and_link_is_measured(cluster_file: Path) -> None:
    cluster = read_cluster_file(cluster_file).cluster
    assert set(cluster.links) == {("a", "b"), ("b", "a")}
    for device in cluster.devices:
        assert device.measured is not None
        assert all(0 < value < math.inf for value in dataclasses.astuple(device.measured))


def test_traces_are_collected_and_go_on_where_they_ended(cluster_file: Path, tmp_path: Path) -> None:
    words = ["trace", "--cluster", str(cluster_file), "--output", str(tmp_path), "--samples", "2", "--place", "here"]
    first = CliRunner().invoke(main, words)
    assert first.exit_code == 0, first.output
    before = list(read_traces([tmp_path], ExchangeSample).samples())
    second = CliRunner().invoke(main, words)
    assert second.exit_code == 0, second.output
    samples = list(read_traces([tmp_path], ExchangeSample).samples())
    assert len(samples) > len(before) >= 2
    assert len({sample.configuration for sample in samples}) == len(samples)
    assert {sample.device for sample in samples} == {"here"}


def test_traces_need_a_calibrated_cluster(cluster_file: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text(cluster_file.read_text())
    result = CliRunner().invoke(main, ["trace", "--cluster", str(bare), "--output", str(tmp_path / "traces")])
    assert result.exit_code == 3
    assert "a, b: not calibrated" in result.output
    assert "flexpie calibrate" in result.output


def test_devices_that_do_not_answer_are_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.5)
    path = write_cluster_file(tmp_path, {"a": "127.0.0.1:1", "b": "127.0.0.1:2"})
    result = CliRunner().invoke(main, ["calibrate", "--cluster", str(path)])
    assert result.exit_code == 3
    assert "DEVICE_UNREACHABLE" in result.output
    assert "device a (127.0.0.1:1)" in result.output
    assert "device b (127.0.0.1:2)" in result.output
    assert not calibration_path(path).exists()


def test_a_worker_that_dies_ends_a_calibration(tmp_path: Path) -> None:
    with start_worker(tmp_path, "a") as worker:
        path = write_cluster_file(tmp_path, {"a": worker.address})

        async def measure() -> None:
            async with Workers(read_cluster_file(path).cluster) as workers:
                await calibrate(workers, "today", lambda step, done, total: worker.kill() if done else None, QUICK)

        with pytest.raises(FlexPieError) as caught:
            asyncio.run(measure())
    assert caught.value.code is ErrorCode.DEVICE_UNREACHABLE
