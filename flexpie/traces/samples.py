"""What one measurement says: the rows of trace files, whose columns follow from these classes.

A nested class stands for several columns: `rates.node_seconds` is the column `rates_node_seconds`. Numbers are finite
and ≥ 0; `store.py` holds them to it, and `seconds` to more than 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flexpie.core.rates import DeviceRates


@dataclass(frozen=True, slots=True)
class Extent:
    """The shape of a tensor in four columns; 0 in all of them where there is none."""

    n: int
    c: int
    h: int
    w: int


@dataclass(frozen=True, slots=True)
class ComputeSample:
    """One device's part of one layer, run inside a segment as onnxruntime really runs it."""

    KIND: ClassVar[str] = "compute"
    VERSION: ClassVar[int] = 1
    """Of the columns; a file with another one is refused."""

    configuration: str
    """Hash of what was run: equal work has an equal one, on every device. Evaluation is grouped by it."""
    device: str
    """Name of the device, unique for its speed: ``x86-20%``."""
    cpu_share: float
    """Share of a core that the device may use; 1 for a whole one."""
    threads: int
    rates: DeviceRates
    """What calibration measured of the device."""
    model: str
    """Where the layer comes from."""
    scheme: str
    op_type: str
    """Of the layer's main operator."""
    linked: str
    """Operators that run in one pass with it, in their order, joined by ``+``."""
    dtype: str
    flops: int
    bytes_read: int
    bytes_written: int
    weight_bytes: int
    """Of `bytes_read`."""
    input: Extent
    output: Extent
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    group: int
    position: int
    """Of the layer in its segment, from 0."""
    seconds: float
    """Median of all repeats."""
    seconds_p10: float
    seconds_p90: float
    repeats: int

    @property
    def key(self) -> tuple[str, str]:
        """What need not be measured twice: device and configuration."""
        return self.device, self.configuration


@dataclass(frozen=True, slots=True)
class ExchangeSample:
    """One exchange between workers, repeated in a program that does nothing else."""

    KIND: ClassVar[str] = "exchange"
    VERSION: ClassVar[int] = 1
    """Of the columns; a file with another one is refused."""

    configuration: str
    """Hash of pattern, sizes, devices and links: equal for equal measurements."""
    device: str
    """Names of the devices that took part and of their links, ``d0+d1@1 Gbit/s``: the place of the measurement."""
    pattern: str
    """``halo``, ``all_gather``, ``scatter``, ``gather`` or ``reshard``."""
    topology: str
    devices: int
    """How many took part."""
    hops: int
    """Of the longest way of a message; 1 on a mesh."""
    cpu_share: float
    """Of the busiest device."""
    send_seconds: float
    """Rates of the busiest device."""
    receive_seconds: float
    end_seconds_per_byte: float
    start_seconds: float
    bandwidth_bytes_per_second: float
    """Of the narrowest link that is used."""
    latency_seconds: float
    """Of the longest way."""
    sent_messages: int
    """At the busiest device."""
    received_messages: int
    sent_bytes: int
    """At the busiest device."""
    received_bytes: int
    port_bytes: int
    """The most that passes a port in one direction, relayed messages included."""
    total_messages: int
    total_bytes: int
    seconds: float
    """Median of all rounds: from the start of the exchange until the last device has what it waits for."""
    seconds_p10: float
    seconds_p90: float
    repeats: int

    @property
    def key(self) -> tuple[str, str]:
        """What need not be measured twice: devices and configuration."""
        return self.device, self.configuration


Sample = ComputeSample | ExchangeSample
