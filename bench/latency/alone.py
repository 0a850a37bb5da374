"""On a device: the unsplit model in onnxruntime, run as often as a client on the network asks for.

python -m bench.latency.alone ADDRESS MODEL INPUTS.npz
"""

from __future__ import annotations

import json
import sys
import time
from multiprocessing.connection import Client, Connection
from pathlib import Path

import numpy as np

from flexpie.worker.engine import OnnxRuntimeEngine

CONNECT_SECONDS = 60.0


def main() -> None:
    """Connects to ADDRESS; each number received is answered with the seconds of so many runs."""
    address, model, inputs = sys.argv[1:]
    session = OnnxRuntimeEngine(threads=1).load(Path(model))
    feeds = np.load(inputs)
    arrays = [feeds[port.name] for port in session.inputs]
    host, port = address.rsplit(":", 1)
    with _connected(host, int(port)) as connection:
        while count := json.loads(connection.recv_bytes()):
            seconds = []
            for _ in range(count):
                start = time.perf_counter()
                session.run(arrays)
                seconds.append(time.perf_counter() - start)
            connection.send_bytes(json.dumps(seconds).encode())


def _connected(host: str, port: int) -> Connection:
    """Both sides start at once: the other one may not listen yet."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return Client((host, port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    main()
