"""On the master's host: loads a model with a given plan, asks it, and compares each answer with the unsplit one.

python -m flexpie.benchmark.asking SOCKET
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from flexpie.benchmark.orders import Answer, arrays_of, serve
from flexpie.benchmark.tracing import segment_seconds, typical
from flexpie.client import Client
from flexpie.core.boundary import Boundary
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.reference.comparing import Comparison, compare

SECONDS = 300.0
"""Deadline of each call."""
CONNECT_SECONDS = 30.0
"""How long the master may take to reach all devices."""


class Asker:
    """A client of one master."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._inputs: dict[str, Any] = {}
        self._expected: dict[str, Any] = {}
        self._boundaries: dict[str, Boundary] = {}

    @property
    def client(self) -> Client:
        """After `open`."""
        if self._client is None:
            raise RuntimeError("not open")
        return self._client

    def open(self, master: str, inputs: str, expected: str) -> Answer:
        """Begin with a master, and the arrays that it will be asked with."""
        self._client = Client(master, timeout=SECONDS)
        self._inputs, self._expected = arrays_of(inputs), arrays_of(expected)
        deadline = time.monotonic() + CONNECT_SECONDS
        while missing := self._unconnected():
            if time.monotonic() > deadline:
                raise FlexPieError(ErrorCode.DEVICE_UNREACHABLE, f"The master does not reach {', '.join(missing)}.")
            time.sleep(0.05)
        return {}

    def load(self, model: str, name: str, shapes: dict[str, list[int]], **options: Any) -> Answer:
        """Deploy a model; with a plan, or with other options of `Client.load`."""
        input_shapes = {key: tuple(shape) for key, shape in shapes.items()}
        info = self.client.load(model, name=name, input_shapes=input_shapes, **options)
        self._boundaries[name] = Boundary(info.boundary)
        return {}

    def ask(self, name: str, requests: int, in_flight: int) -> Answer:
        """Ask so many times, with so many requests under way at once."""
        begin = time.perf_counter()
        if in_flight == 1:  # a thread would be between the clock and the client
            found = [self._once(name) for _ in range(requests)]
        else:
            with ThreadPoolExecutor(in_flight) as threads:
                found = list(threads.map(lambda _: self._once(name), range(requests)))
        return {
            "seconds": [seconds for seconds, _ in found],
            "wall_seconds": time.perf_counter() - begin,
            "difference": max(comparison.max_rel_error for _, comparison in found),
            "equal": all(comparison.equal for _, comparison in found),
        }

    def trace(self, name: str, requests: int) -> Answer:
        """Ask while the devices tell what they do; spans of the last request, and seconds of segments of all."""
        found = []
        with self.client.trace(name) as traces:
            for _ in range(requests):
                began = time.monotonic()
                self.client.infer(name, self._inputs)
                ended = time.monotonic()
                trace = next(traces)
                found.append(segment_seconds(trace))
        spans = {device: [asdict(span) for span in spans] for device, spans in trace.spans.items()}
        return {"segment_seconds": typical(found), "client": [began, ended], "spans": spans}

    def unload(self, name: str) -> Answer:
        """End a deployment."""
        self.client.unload(name)
        return {}

    def _unconnected(self) -> list[str]:
        return [device.name for device in self.client.status().devices if device.state != "connected"]

    def _once(self, name: str) -> tuple[float, Comparison]:
        start = time.perf_counter()
        outputs = self.client.infer(name, self._inputs)
        return time.perf_counter() - start, compare(self._expected, outputs, self._boundaries[name])


def main() -> None:
    """Carry out orders."""
    asker = Asker()
    orders = (asker.open, asker.load, asker.ask, asker.trace, asker.unload)
    serve({order.__name__: order for order in orders})


if __name__ == "__main__":
    main()
