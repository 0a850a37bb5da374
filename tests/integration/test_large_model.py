"""A model above 2 GB, with external data, on real daemons: the master never holds its weights twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from flexpie import Client
from tests.daemons import local_cluster, wait_until

LAYERS, WIDTH = 36, 4096
"""Products of 64 MiB of weights each: 2.4 GB."""


def write_large_model(folder: Path) -> tuple[Path, int]:
    """A chain of matrix products; returns its path and the bytes of its weights."""
    generator = np.random.default_rng(0)
    nodes, weights, offset = [], [], 0
    with (folder / "large.data").open("wb") as data:
        for index in range(LAYERS):
            values = generator.standard_normal((WIDTH, WIDTH), dtype=np.float32) * np.float32(WIDTH**-0.5)
            data.write(values.data)
            weight = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=values.shape)
            weight.data_location = TensorProto.EXTERNAL
            entries = {"location": "large.data", "offset": str(offset), "length": str(values.nbytes)}
            for key, value in entries.items():
                weight.external_data.add(key=key, value=value)
            weights.append(weight)
            nodes.append(helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"x{index + 1}"], name=f"mm{index}"))
            offset += values.nbytes
    ends = [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, (1, 4, WIDTH)) for index in (0, LAYERS)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path, offset


def peak_bytes(pid: int) -> int:
    """The most memory that a process had at once, files that it maps included."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_master_holds_the_weights_once(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    if psutil.virtual_memory().available < 12e9 or psutil.disk_usage(str(tmp_path)).free < 16e9:
        pytest.skip("needs 12 GB of memory and 16 GB of disk")
    path, weight_bytes = write_large_model(tmp_path)
    x = np.random.default_rng(1).standard_normal((1, 4, WIDTH), dtype=np.float32)
    expected = x
    with path.with_name("large.data").open("rb") as data:
        for _ in range(LAYERS):
            expected = expected @ np.fromfile(data, np.float32, WIDTH * WIDTH).reshape(WIDTH, WIDTH)
    models = f"models:\n  - {{name: large, path: {path}, scheme: OutC}}\n"
    with local_cluster(tmp_path, 2, models) as cluster, Client(cluster.address, timeout=300) as client:
        wait_until(lambda: client.ready("large"), "the model is deployed", 300)
        peak = peak_bytes(cluster.master.process.pid)
        outputs = client.infer("large", {"x0": x}, timeout=300)
    record_property("peak_of_the_master_by_weights", peak / weight_bytes)
    assert peak <= 1.3 * weight_bytes
    np.testing.assert_allclose(outputs[f"x{LAYERS}"], expected, atol=1e-4)
