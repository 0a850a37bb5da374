"""What one measurement says: the rows of trace files, whose columns follow from these classes.

A nested class stands for several columns: `rates.node_seconds` is the column `rates_node_seconds`. Numbers are finite
and ≥ 0; `store.py` holds them to it, and `seconds` to more than 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flexpie.core.rates import DeviceRates


@dataclass(frozen=True, slots=True)
class ComputeSample:
    """One device's part of one layer, run inside a segment as onnxruntime really runs it."""

    KIND: ClassVar[str] = "compute"
    VERSION: ClassVar[int] = 2
    """Of the columns; a file with another one is refused."""
    KEY: ClassVar[tuple[str, str]] = ("device", "launch")
    """Columns that say what need not be measured again."""

    configuration: str
    """Hash of place and work: equal for equal work, on every device. Evaluation is grouped by it."""
    device: str
    """Name of the device, unique for its speed: ``x86-20%``."""
    cpu_share: float
    """Share of its cores that the device may use; 1 for whole ones."""
    threads: int
    """Of onnxruntime, each with a core to itself."""
    rates: DeviceRates
    """What calibration measured of the device."""
    launch: str
    """Name of the processes and plan that it was measured in; a configuration is often met in several."""
    model: str
    scheme: str
    """How the result of the segment is divided."""
    place: str
    """``layer``; or ``enter`` and ``leave`` for what onnxruntime does to lay out a tensor at a segment's border."""
    position: str
    """Of the layer in its segment: ``first`` reads what enters the segment, ``last`` yields what leaves it, ``only``
    does both, ``inner`` neither."""
    op_type: str
    """Of the layer's main operator."""
    work: str
    """The part of the layer, as `flexpie.traces.works` writes it."""
    seconds: float
    """Typical of all repeats: the mean of their middle half."""
    seconds_p10: float
    seconds_p90: float
    repeats: int


@dataclass(frozen=True, slots=True)
class ExchangeSample:
    """One exchange between workers, with a little computing in front of it, as between two segments."""

    KIND: ClassVar[str] = "exchange"
    VERSION: ClassVar[int] = 2
    """Of the columns; a file with another one is refused."""
    KEY: ClassVar[tuple[str, str]] = ("device", "configuration")
    """Columns that say what need not be measured again."""

    configuration: str
    """Hash of pattern and traffic: equal for equal exchanges, on every cluster. Evaluation is grouped by it."""
    device: str
    """The place of the measurement: topology, names of the cluster's devices, and whatever tells it from others."""
    pattern: str
    """``halo``, ``all_gather``, ``reshard``, ``scatter`` or ``gather``."""
    topology: str
    devices: int
    """How many took part."""
    hops: int
    """Of the longest way of a message; 1 on a mesh."""
    messages: int
    """Of all devices together, relayed ones counted at each hop."""
    total_bytes: int
    """The same of bytes."""
    most_messages: int
    """That one device sends and receives."""
    most_bytes: int
    """The same of bytes."""
    physics_seconds: float
    """What `PhysicsCostModel` predicts."""
    traffic: str
    """Bytes from each device to each other one, as `flexpie.traces.traffic` writes them."""
    cluster: str
    """Devices with their rates, and links, as `flexpie.traces.traffic` writes them."""
    seconds: float
    """Median over the batches: from the start of the exchange until the last device has what it waits for, and works
    again."""
    seconds_p10: float
    seconds_p90: float
    repeats: int
    """Batches that were timed, each of many exchanges."""


Sample = ComputeSample | ExchangeSample
