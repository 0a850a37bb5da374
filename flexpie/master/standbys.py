"""What is prepared for the loss of a device: for each one that a model needs, a deployment over the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flexpie.master.deployment_record import DeploymentRecord
from flexpie.master.events import DeploymentId, DeviceName


@dataclass
class Standbys:
    """The deployments that one profile of a model can be switched to at once."""

    ready: dict[DeviceName, DeploymentRecord] = field(default_factory=dict)
    """By the device whose loss they are for."""
    settled: set[DeviceName] = field(default_factory=set)
    """Devices for whose loss nothing more can be prepared now: there is no room, or no plan."""

    def next_to_prepare(self, serving: DeploymentRecord | None, connected: tuple[DeviceName, ...]) -> DeviceName | None:
        """The device whose loss is to be prepared for next: one that is needed, and without which others are left."""
        if serving is None or serving.plan is None or len(connected) < 2:
            return None
        if serving.plan.takes_turns:
            return None  # it goes on without a device
        for device in serving.plan.participants:
            known = self.ready.get(device)
            current = known and not known.outdated and set(known.devices) == set(connected) - {device}
            if current or device in self.settled:
                continue
            return device
        return None

    def outdate(self) -> None:
        """Devices and links are not as they were."""
        for standby in self.ready.values():
            standby.outdated = True
        self.settled.clear()

    def take_one(self, standby: DeploymentId) -> DeploymentRecord | None:
        """One of them, to be served from now on; None where it is not there."""
        device = next((device for device, record in self.ready.items() if record.id == standby), None)
        return None if device is None else self.ready.pop(device)

    def take(self) -> DeploymentRecord | None:
        """The one that is predicted to be fastest, to be served from now on."""

        def seconds(device: DeviceName) -> float:
            plan = self.ready[device].plan
            return plan.predicted_seconds if plan else 0.0

        return self.ready.pop(min(self.ready, key=seconds)) if self.ready else None

    def drop(self, of: Callable[[DeploymentRecord], bool] = lambda _: True) -> list[DeploymentRecord]:
        """Forget some, or all; returns them."""
        dropped = {device: record for device, record in self.ready.items() if of(record)}
        for device in dropped:
            del self.ready[device]
        return list(dropped.values())


def reserved_by(records: Iterable[DeploymentRecord]) -> dict[DeviceName, int]:
    """What deployments take of each device's memory together."""
    reserved: dict[DeviceName, int] = {}
    for record in records:
        for device, nbytes in record.resident_bytes.items():
            reserved[device] = reserved.get(device, 0) + nbytes
    return reserved
