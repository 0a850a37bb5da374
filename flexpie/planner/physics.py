"""The first cost model: flops and bytes against a device's speed, messages and bytes against its port."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flexpie.core.cluster import Cluster
from flexpie.core.rates import REFERENCE_RATES, DeviceRates
from flexpie.planner.cost import Array, LayerWork, MessageCosts, Work
from flexpie.planner.routes import Routes

FULL_CHANNELS = 64
"""With fewer output channels a convolution reuses each input less: 16 of 64 channels run 2.8× as fast, not 4×."""
FULL_PIXELS = 3.0
"""Output pixels at which a convolution reaches half of its speed: 2 of 7 rows run 2.9× as fast, not 3.5×."""

CLIENT_SECONDS, CLIENT_SECONDS_PER_BYTE = 0.9e-3, 1.9e-9
"""Between a client and a master that are near one another, each way. Measured with the Python client: 2.0 ms for an
image of 600 kB and 1.1 ms for tokens to the master, 0.7 ms for 4 kB and 1.6 ms for 400 kB back."""

_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Constant"})
"""Operators that move no data."""
_PICKING = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
"""Operators that read only what they write, though a rule may need more of their input to be there."""
_MATRIX = frozenset({"MatMul", "Gemm"})
_NOT_FUSED = _MATRIX | {"Conv"}
"""Operators that take time of their own even where they follow another one in its layer."""


class PhysicsCostModel:
    """Roofline of a device's computing and memory speed; messages through the ports of the cluster's network.

    Parameters
    ----------
    cluster: its devices' rates; the master is as fast as the reference core.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._rates = [device.rates for device in cluster.devices]
        self._routes = Routes(cluster)
        ends = (*self._rates, REFERENCE_RATES)
        self._messages = MessageCosts(
            send_seconds=np.array([rates.send_seconds for rates in ends]),
            receive_seconds=np.array([rates.receive_seconds for rates in ends]),
            seconds_per_byte=np.array([rates.end_seconds_per_byte for rates in ends]),
            start_seconds=np.array(
                [*(rates.start_seconds for rates in self._rates), 0.0]
            ),  # the master computes nothing
            client_seconds=CLIENT_SECONDS,
            client_seconds_per_byte=CLIENT_SECONDS_PER_BYTE,
        )

    @property
    def messages(self) -> MessageCosts:
        """See `flexpie.planner.cost.CostModel`."""
        return self._messages

    @property
    def twins(self) -> tuple[int, ...]:
        """Devices of equal rates; see `flexpie.planner.cost.CostModel`."""
        return tuple(self._rates.index(rates) for rates in self._rates)

    def compute_seconds(self, device: int, works: Sequence[LayerWork]) -> Array:
        """Seconds of each layer's part on a device; see `flexpie.planner.cost.CostModel`."""
        rates = self._rates[device]
        return np.array([layer_seconds(work, rates) for work in works], dtype=np.float64)

    def exchange_seconds(self, nbytes: Array) -> Array:
        """Seconds until the busiest device has sent, received and woken up, plus the longest way's latency.

        A device's processor handles its messages one after another; its port sends and receives at the same time.
        """
        load, costs = self._routes.load(nbytes), self._messages
        busy = load.sent * costs.send_seconds + load.received * costs.receive_seconds
        busy += load.handled_bytes * costs.seconds_per_byte
        busy += np.maximum(load.outgoing_seconds, load.incoming_seconds)
        busy += np.where(load.received > 0, costs.start_seconds, 0.0)
        seconds: Array = busy.max(axis=-1) + load.latency_seconds
        return seconds


def layer_seconds(works: LayerWork, rates: DeviceRates) -> float:
    """Seconds of a layer's part on a device."""
    seconds = 0.0
    for work in works:
        seconds += work_seconds(work, rates)
    return seconds


def work_seconds(work: Work, rates: DeviceRates) -> float:
    """Seconds of an operator's part on a device."""
    if work.op_type in _FREE:
        return rates.node_seconds
    if work.linked and work.op_type not in _NOT_FUSED:
        return 0.0  # done on the result of the operator in front of it while that is in a register
    computing = work.flops / _flops_per_second(work, rates)
    read = work.bytes_written if work.op_type in _PICKING else work.bytes_read
    moving = (read + work.bytes_written) / rates.memory_bytes_per_second
    return rates.node_seconds + max(computing, moving)


def _flops_per_second(work: Work, rates: DeviceRates) -> float:
    if work.op_type == "Conv":
        output = next((shape for shape in work.outputs if shape), (1, 1))  # an opaque one has no axes
        channels, pixels = output[1], max(1, math.prod(output[2:]))
        if work.group > 1 and channels <= 2 * work.group:
            return rates.depthwise_flops_per_second
        reuse: float = min(1.0, (max(1, channels) / FULL_CHANNELS) ** 0.25)
        return rates.dense_flops_per_second * reuse * pixels / (pixels + FULL_PIXELS)
    if work.op_type in _MATRIX:
        return rates.matrix_flops_per_second
    return rates.element_flops_per_second
