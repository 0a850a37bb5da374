"""On a device: the unsplit model in onnxruntime, run as often as a client on the network asks for.

python -m bench.latency.alone ADDRESS MODEL INPUTS.npz
"""

from __future__ import annotations

import json
import sys
import time
from multiprocessing.connection import Client as Connection
from pathlib import Path

import numpy as np

from flexpie.worker.engine import OnnxRuntimeEngine


def main() -> None:
    """Connects to ADDRESS; each number received is answered with the seconds of so many runs."""
    address, model, inputs = sys.argv[1:]
    session = OnnxRuntimeEngine(threads=1).load(Path(model))
    feeds = np.load(inputs)
    arrays = [feeds[port.name] for port in session.inputs]
    host, port = address.rsplit(":", 1)
    with Connection((host, int(port))) as connection:
        while count := json.loads(connection.recv_bytes()):
            seconds = []
            for _ in range(count):
                start = time.perf_counter()
                session.run(arrays)
                seconds.append(time.perf_counter() - start)
            connection.send_bytes(json.dumps(seconds).encode())


if __name__ == "__main__":
    main()
