"""Which devices can be used."""

from __future__ import annotations

from collections.abc import Sequence

from flexpie.master.events import DeviceName
from flexpie.master.records import DeviceRecord, DeviceState

_IN_USE = (DeviceState.CONNECTED, DeviceState.LEAVING)


class Membership:
    """The devices of the cluster file and what is known of each."""

    def __init__(self, devices: Sequence[DeviceName]) -> None:
        self.records = {name: DeviceRecord(name) for name in devices}
        self._grace_over = False

    @property
    def connected(self) -> tuple[DeviceName, ...]:
        """Devices that can be used, in the order of the cluster file."""
        return tuple(name for name, record in self.records.items() if record.state is DeviceState.CONNECTED)

    @property
    def settled(self) -> bool:
        """Whether every device has been heard of, or has had the time to be."""
        return self._grace_over or all(record.state is not DeviceState.CONNECTING for record in self.records.values())

    def connect(self, device: DeviceName, worker_id: str, version: str) -> None:
        """A device can be used."""
        self.records[device] = DeviceRecord(device, DeviceState.CONNECTED, "", worker_id, version)

    def lose(self, device: DeviceName, state: DeviceState, reason: str) -> bool:
        """A device cannot be used any more, or still not; returns whether something may depend on it."""
        record = self.records[device]
        was_in_use = record.state in _IN_USE
        starting = record.state is DeviceState.CONNECTING and not self._grace_over
        if not starting or state is DeviceState.REFUSED:
            record.state = state
        record.reason, record.suspected = reason, False
        return was_in_use

    def leave(self, device: DeviceName) -> bool:
        """A device takes no new requests; returns whether it did before."""
        record = self.records[device]
        record.suspected = False
        if record.state is not DeviceState.CONNECTED:
            return False
        record.state, record.reason = DeviceState.LEAVING, "it is shutting down"
        return True

    def suspect(self, device: DeviceName) -> bool:
        """A device may be gone; returns whether that is news."""
        record = self.records[device]
        if record.state is not DeviceState.CONNECTED or record.suspected:
            return False
        record.suspected = True
        return True

    def clear(self, device: DeviceName) -> None:
        """A suspected device is there."""
        self.records[device].suspected = False

    def end_grace(self) -> None:
        """Devices that have not connected are no longer waited for."""
        self._grace_over = True
        for record in self.records.values():
            if record.state is DeviceState.CONNECTING:
                record.state = DeviceState.UNREACHABLE
