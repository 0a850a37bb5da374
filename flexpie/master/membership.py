"""Which devices can be used."""

from __future__ import annotations

from collections.abc import Sequence

from flexpie.master.events import DeviceName
from flexpie.master.records import DeviceRecord, DeviceState

FIRST_SETTLING_SECONDS = 0.5
LONGEST_SETTLING_SECONDS = 15.0
LOSSES_COUNT_SECONDS = 60.0
"""A device that returns must be steady for a moment before plans use it: twice as long for each time that it was lost
within this time."""

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

    def connect(self, device: DeviceName, worker_id: str, version: str, at: float) -> float:
        """A device is there; returns for how many seconds it must be steady before it can be used, 0 if it can be
        used now: where it was not lost lately, or nobody else is there to work meanwhile."""
        record = self.records[device]
        record.losses = [loss for loss in record.losses if at - loss < LOSSES_COUNT_SECONDS]
        record.connections += 1
        record.worker_id, record.version, record.reason, record.suspected = worker_id, version, "", False
        if not record.losses or not self.connected:
            record.state = DeviceState.CONNECTED
            return 0.0
        record.state, record.reason = DeviceState.RETURNING, "it was lost a moment ago, and must be steady first"
        return min(FIRST_SETTLING_SECONDS * 2.0 ** (len(record.losses) - 1), LONGEST_SETTLING_SECONDS)

    def settle(self, device: DeviceName, connection: int) -> bool:
        """A device was steady for as long as it had to, since that connection; returns whether it can be used now,
        but could not before."""
        record = self.records[device]
        if record.state is not DeviceState.RETURNING or record.connections != connection:
            return False
        record.state, record.reason = DeviceState.CONNECTED, ""
        return True

    def lose(self, device: DeviceName, state: DeviceState, reason: str, at: float) -> bool:
        """A device cannot be used any more, or still not; returns whether something may depend on it."""
        record = self.records[device]
        was_in_use = record.state in _IN_USE
        if record.state in (DeviceState.CONNECTED, DeviceState.RETURNING):
            record.losses.append(at)
        starting = record.state is DeviceState.CONNECTING and not self._grace_over
        if not starting or state is DeviceState.REFUSED:
            record.state = state
        record.reason, record.suspected = reason, False
        if not self.connected:
            self._use_what_there_is()
        return was_in_use

    def leave(self, device: DeviceName) -> bool:
        """A device takes no new requests; returns whether it did before."""
        record = self.records[device]
        record.suspected = False
        if record.state not in (DeviceState.CONNECTED, DeviceState.RETURNING):
            return False
        was_used = record.state is DeviceState.CONNECTED
        record.state, record.reason = DeviceState.LEAVING, "it is shutting down"
        if not self.connected:
            self._use_what_there_is()
        return was_used

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

    def _use_what_there_is(self) -> None:
        """Nobody else is left: an unsteady device is better than none."""
        for record in self.records.values():
            if record.state is DeviceState.RETURNING:
                record.state, record.reason = DeviceState.CONNECTED, ""
