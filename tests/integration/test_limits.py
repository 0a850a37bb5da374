"""What is too much is refused with the numbers, and whoever was there before is served on."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from flexpie.client import Client
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.limits import HANDSHAKE_MILLISECONDS
from tests.daemons import local_cluster, wait_until
from tests.integration import master_models as models

TIMEOUT = 30.0


def test_models_and_connections_are_counted(tmp_path: Path) -> None:
    two, sums = tmp_path / "two.onnx", tmp_path / "sums.onnx"
    models.two_outputs(two)
    models.two_outputs(sums)
    arguments = ["--max-models", "1", "--max-connections", "3"]
    with (
        local_cluster(tmp_path, 1, "models: [{path: two.onnx}]\n", arguments) as cluster,
        Client(cluster.address, timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: client.ready("two"), "two is ready")
        with pytest.raises(FlexPieError, match="The master has 1 of at most 1 models") as refused:
            client.load(sums)
        assert refused.value.code is ErrorCode.TOO_LARGE
        assert "--max-models" in refused.value.remedy

        host, port = cluster.address.split(":")
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=TIMEOUT))
            # Shorter than what a daemon waits for a handshake, after which it closes any of them.
            with socket.create_connection((host, int(port)), timeout=HANDSHAKE_MILLISECONDS / 2000) as one_too_many:
                assert _is_closed(one_too_many)
            answer = client.infer("two", {"x": np.ones((4, 3), np.float32)})
            np.testing.assert_array_equal(answer["twice"], np.full((4, 3), 2))
        client.unload("two")


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other end closes the connection; it first may send what a connection begins with."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True
