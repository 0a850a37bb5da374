"""The first cost model: flops and bytes against a device's speed, messages and bytes against its port."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.planner.cost import Array, Work
from flexpie.planner.routes import Routes

# Computing, on the reference core (speed 1.0: one core of a current x86 server, onnxruntime, fp32, one thread).
# Fitted to times of whole layers and of their quarters there: dense convolutions of 230 MFLOP take 0.94–1.09 ms,
# a depthwise 3×3 of 128×56×56 takes 0.14 ms, BERT-base with 128 tokens (22 GFLOP) takes 0.13 s.
CONVOLUTION_FLOPS_PER_SECOND = 235e9
DEPTHWISE_FLOPS_PER_SECOND = 55e9
MATRIX_FLOPS_PER_SECOND = 180e9
ELEMENT_FLOPS_PER_SECOND = 8e9
"""Of everything else: element-wise operators, pools, normalisation, Softmax."""
MEMORY_BYTES_PER_SECOND = 24e9
NODE_SECONDS = 4e-6
"""Of starting one operator."""
FULL_CHANNELS = 64
"""With fewer output channels a convolution reuses each input less: 16 of 64 channels run 2.8× as fast, not 4×."""
FULL_PIXELS = 3.0
"""Output pixels at which a convolution reaches half of its speed: 2 of 7 rows run 2.9× as fast, not 3.5×."""

# An exchange, in seconds of the reference core; a slower device takes longer in proportion. Measured with asynchronous
# gRPC streams: a message costs its two ends 0.2–0.25 ms together and about 0.9 ns per byte.
SEND_SECONDS = 130e-6
RECEIVE_SECONDS = 65e-6
END_SECONDS_PER_BYTE = 0.45e-9
TURN_SECONDS = 180e-6
"""Per device that takes part in an exchange: waking up, assembling inputs, starting the next subgraph with cold
caches."""
MASTER_SPEED = 1.0

_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Constant"})
"""Operators that move no data."""
_PICKING = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
"""Operators that read only what they write, though a rule may need more of their input to be there."""
_MATRIX = frozenset({"MatMul", "Gemm"})


class PhysicsCostModel:
    """Roofline of a device's computing and memory speed; messages through the ports of the cluster's network.

    Parameters
    ----------
    cluster: speeds of its devices are relative to the reference core.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._speeds = [device.speed for device in cluster.devices]
        self._routes = Routes(cluster)
        self._slowness = np.array([1 / speed for speed in (*self._speeds, MASTER_SPEED)])
        self._turn = TURN_SECONDS * self._slowness
        self._turn[-1] = 0.0  # the master computes nothing

    def compute_seconds(self, device: int, works: Sequence[Work]) -> Array:
        """Seconds of each part on a device; see `flexpie.planner.cost.CostModel`."""
        return np.array([reference_seconds(work) for work in works], dtype=np.float64) / self._speeds[device]

    def exchange_seconds(self, nbytes: Array) -> Array:
        """Seconds until the busiest device has sent, received and woken up, plus the longest way's latency.

        A device's processor handles its messages one after another; its port sends and receives at the same time.
        """
        load = self._routes.load(nbytes)
        processor = load.sent * SEND_SECONDS + load.received * RECEIVE_SECONDS
        processor += load.handled_bytes * END_SECONDS_PER_BYTE
        busy = processor * self._slowness + np.maximum(load.outgoing_seconds, load.incoming_seconds)
        busy += np.where(load.received > 0, self._turn, 0.0)
        seconds: Array = busy.max(axis=-1) + load.latency_seconds
        return seconds


def reference_seconds(work: Work) -> float:
    """Seconds of one part on the reference core."""
    if work.op_type in _FREE:
        return NODE_SECONDS
    if work.linked and work.op_type not in _MATRIX | {"Conv"}:
        return 0.0  # done on the result of the operator in front of it while that is in a register
    computing = work.flops / _flops_per_second(work)
    read = work.bytes_written if work.op_type in _PICKING else work.bytes_read
    moving = (read + work.bytes_written) / MEMORY_BYTES_PER_SECOND
    return NODE_SECONDS + max(computing, moving)


def _flops_per_second(work: Work) -> float:
    if work.op_type == "Conv":
        output = next((shape for shape in work.outputs if shape), (1, 1))  # an opaque one has no axes
        channels, pixels = output[1], max(1, math.prod(output[2:]))
        if work.group > 1 and channels <= 2 * work.group:
            return DEPTHWISE_FLOPS_PER_SECOND
        reuse: float = min(1.0, (max(1, channels) / FULL_CHANNELS) ** 0.25)
        return CONVOLUTION_FLOPS_PER_SECOND * reuse * pixels / (pixels + FULL_PIXELS)
    if work.op_type in _MATRIX:
        return MATRIX_FLOPS_PER_SECOND
    return ELEMENT_FLOPS_PER_SECOND
