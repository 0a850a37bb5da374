"""The calibration file: what `flexpie calibrate` measured of a cluster. It lies beside the cluster file.

`docs/cluster-file.md` describes it. Devices are known by name and address: what was measured of another device than the
cluster file has under that name is not used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.rates import REFERENCE_RATES, DeviceRates
from flexpie.master import quantities
from flexpie.master.yaml_source import YamlSource, read_yaml

VERSION = 1
"""Of the file's format."""
_REMEDY = "Run `flexpie calibrate` again, or delete the file to plan without it."


@dataclass(frozen=True)
class DeviceCalibration:
    """What was measured of one device."""

    name: str
    address: str
    threads: int
    """Of its worker's engine, at that time."""
    rates: DeviceRates


@dataclass(frozen=True)
class Calibration:
    """What was measured of a cluster."""

    measured_at: str
    """Date and time, for people."""
    devices: tuple[DeviceCalibration, ...]
    links: Mapping[tuple[str, str], Link]
    """By names of source and destination."""


def calibration_path(cluster_file: Path) -> Path:
    """Where the calibration of a cluster file lies: ``cluster.calibration.yaml`` beside ``cluster.yaml``."""
    return cluster_file.with_suffix(".calibration.yaml")


def calibrated(cluster: Cluster, calibration: Calibration) -> tuple[Cluster, str]:
    """The cluster with what was measured of it, and what is stale about the calibration (empty where nothing is).

    A measured device's `speed` is that of dense convolutions. A link is used where both of its ends are.
    """
    measured = {(device.name, device.address): device for device in calibration.devices}
    fresh = {name for name, _ in measured} & {d.name for d in cluster.devices if (d.name, d.address) in measured}
    devices = tuple(
        _with_rates(device, measured[device.name, device.address].rates) if device.name in fresh else device
        for device in cluster.devices
    )
    links = {ends: link for ends, link in calibration.links.items() if fresh.issuperset(ends)}
    return dataclasses.replace(cluster, devices=devices, links={**cluster.links, **links}), _stale(cluster, calibration)


def _with_rates(device: Device, rates: DeviceRates) -> Device:
    speed = rates.dense_flops_per_second / REFERENCE_RATES.dense_flops_per_second
    return dataclasses.replace(device, speed=speed, measured=rates)


def _stale(cluster: Cluster, calibration: Calibration) -> str:
    addresses = {device.name: device.address for device in calibration.devices}
    complaints = []
    for device in cluster.devices:
        if device.name not in addresses:
            complaints.append(f"{device.name} was not measured")
        elif device.address != addresses[device.name]:
            complaints.append(f"{device.name} had the address {addresses[device.name]}")
    return ", ".join(complaints)


# ------------------------------------------------------------------------------------------------ writing


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration file, whole or not at all."""
    content = {
        "version": VERSION,
        "measured_at": calibration.measured_at,
        "devices": [_device_entry(device) for device in calibration.devices],
        "links": [_link_entry(ends, link) for ends, link in calibration.links.items()],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(f"# Written by `flexpie calibrate`. docs/cluster-file.md describes it.\n{text}", "utf-8")
    unfinished.replace(path)


def _device_entry(device: DeviceCalibration) -> dict[str, object]:
    rates = {name: float(f"{value:.4g}") for name, value in dataclasses.asdict(device.rates).items()}
    return {"name": device.name, "address": device.address, "threads": device.threads, "rates": rates}


def _link_entry(ends: tuple[str, str], link: Link) -> dict[str, object]:
    return {
        "from": ends[0],
        "to": ends[1],
        "bandwidth": f"{link.bandwidth_bytes_per_second * 8 / 1e6:.3f} Mbit/s",
        "latency": f"{link.latency_seconds * 1e6:.1f} us",
    }


# ------------------------------------------------------------------------------------------------ reading

_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Device(_Table):
    name: str
    address: str
    threads: Annotated[int, Field(ge=1)]
    rates: dict[str, _Rate]


class _Link(_Table):
    source: str = Field(alias="from")
    destination: str = Field(alias="to")
    bandwidth: Annotated[float, BeforeValidator(quantities.bandwidth)]
    latency: Annotated[float, BeforeValidator(quantities.latency)]


class _Content(_Table):
    version: int
    measured_at: str = ""
    devices: list[_Device]
    links: list[_Link] = []


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file; raises ``INVALID_TRACES`` for one that is broken or of another version."""
    try:
        source = read_yaml(path)
    except FlexPieError as error:
        raise _invalid(error.message) from None
    version = source.value.get("version")
    if version != str(VERSION):
        raise _invalid(f"{path} has version {version}; this FlexPie reads version {VERSION}.")
    try:
        content = _Content.model_validate(source.value)
    except ValidationError as error:
        mistake = error.errors()[0]
        location = tuple(mistake["loc"])
        found = source.found(location)
        raise _invalid(f"{_where(source, location)}: {mistake['msg']}, found {found!r}.") from None
    devices = tuple(
        DeviceCalibration(device.name, device.address, device.threads, _rates(source, at, device.rates))
        for at, device in enumerate(content.devices)
    )
    links = {(link.source, link.destination): Link(link.bandwidth, link.latency) for link in content.links}
    return Calibration(content.measured_at, devices, links)


def _rates(source: YamlSource, at: int, rates: Mapping[str, float]) -> DeviceRates:
    names = {item.name for item in dataclasses.fields(DeviceRates)}
    if wrong := names.symmetric_difference(rates):
        name = min(wrong)
        what = "is missing" if name in names else "is unknown"
        raise _invalid(f"{_where(source, ('devices', at, 'rates'))}: {name} {what}.")
    return DeviceRates(**rates)


def _where(source: YamlSource, location: tuple[int | str, ...]) -> str:
    return f"{source.path}:{source.line(location)}: {source.field(location)}"


def _invalid(message: str) -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_TRACES, message, _REMEDY)
