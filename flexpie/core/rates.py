"""How fast a device computes and handles messages: the numbers that calibration measures."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What a cost model knows about a device."""

    dense_flops_per_second: float
    """Of dense convolutions with many channels, fp32."""
    depthwise_flops_per_second: float
    """Of depthwise convolutions."""
    matrix_flops_per_second: float
    """Of matrix products."""
    element_flops_per_second: float
    """Of everything else: element-wise operators, pools, normalisation, Softmax."""
    memory_bytes_per_second: float
    """Of operators that only move data, read and written bytes together."""
    node_seconds: float
    """Of starting one operator."""
    send_seconds: float
    """Processor time of sending one message, however small."""
    receive_seconds: float
    """Processor time of receiving one message."""
    end_seconds_per_byte: float
    """Processor time of a byte at each of the two ends of its way."""
    start_seconds: float
    """Of waking up when the last message is there, assembling inputs, and starting a subgraph with cold caches."""

    def scaled(self, speed: float) -> DeviceRates:
        """The rates of a device that is `speed` times as fast in everything."""
        return DeviceRates(
            **{
                item.name: getattr(self, item.name) * speed
                if item.name.endswith("_per_second")
                else getattr(self, item.name) / speed
                for item in fields(self)
            }
        )


REFERENCE_RATES = DeviceRates(
    dense_flops_per_second=235e9,
    depthwise_flops_per_second=55e9,
    matrix_flops_per_second=180e9,
    element_flops_per_second=8e9,
    memory_bytes_per_second=24e9,
    node_seconds=4e-6,
    send_seconds=130e-6,
    receive_seconds=65e-6,
    end_seconds_per_byte=0.45e-9,
    start_seconds=180e-6,
)
"""Of the reference core (speed 1.0): one core of a current x86 server, onnxruntime, fp32, one thread.

Fitted to times of whole layers and of their quarters there: dense convolutions of 230 MFLOP take 0.94-1.09 ms, a
depthwise 3×3 of 128×56×56 takes 0.14 ms, BERT-base with 128 tokens (22 GFLOP) takes 0.13 s. Messages: measured with
asynchronous gRPC streams, a message costs its two ends 0.2-0.25 ms together and about 0.9 ns per byte.
"""
