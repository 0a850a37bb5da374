"""What the state knows of a deployment, and the bounds of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.core.program import MASTER, DeviceProgram, Receive, Send
from flexpie.wire.tensors import payload_bytes
from flexpie.worker.request import Slot


@dataclass(frozen=True)
class Limits:
    """Bounds of a worker."""

    requests: int = 256
    """In flight at once."""
    buffered_bytes: int = 512 * 1024 * 1024
    """Of payloads that wait for their step."""
    memory_bytes: int = 0
    """Of weights and activations of all deployments; 0 is no limit."""
    activation_bytes: int = 2 * 1024 * 1024 * 1024
    """Of the values of all requests in flight; less where `memory_bytes` leaves less beside the weights."""
    remembered: int = 4096
    """Ended requests whose late messages are known and dropped."""
    lease_seconds: float = 60.0
    """How long the deployments of a master stay that is gone."""


@dataclass
class Deployment:
    """A program that this worker runs."""

    deployment_id: str
    program: DeviceProgram
    master_id: str
    model: str
    device_names: tuple[str, ...]
    weight_bytes: int
    request_bytes: int
    """Most that one request holds at once."""
    expected: dict[Slot, int | None]
    """Payload bytes of every message of a request; None where strings or opaque values make them unknown."""
    ready: bool = False
    orphaned_at: float | None = None
    """When its master was lost."""
    requests_done: int = 0
    requests_failed: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    compute_seconds: float = 0.0

    @property
    def resident_bytes(self) -> int:
        """What it takes while one request runs."""
        return self.weight_bytes + self.request_bytes

    def name_of(self, device: int) -> str:
        """What the user calls a device."""
        if device == MASTER:
            return "the master"
        return self.device_names[device] if device < len(self.device_names) else f"device {device}"

    def sends_to(self, device: int) -> bool:
        """Whether its program has a message for the device."""
        return any(isinstance(step, Send) and step.destination == device for step in self.program.steps)


def expected_messages(program: DeviceProgram) -> dict[Slot, int | None]:
    """Payload bytes of every message that a request brings; None where strings or opaque values make them unknown."""
    return {
        (step.exchange, step.source): payload_bytes([program.values[value] for value in step.values])
        for step in program.steps
        if isinstance(step, Receive)
    }
