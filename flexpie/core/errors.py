"""The catalogue of errors: every failure that a user can see has a code, a cause and a remedy."""

from __future__ import annotations

import enum


class ErrorCode(enum.Enum):
    """Kinds of failure. `flexpie.wire.status` maps each one to a gRPC status."""

    INVALID_MODEL = "INVALID_MODEL"
    """The file is not an ONNX model, is truncated, or contradicts itself."""
    UNSUPPORTED_MODEL = "UNSUPPORTED_MODEL"
    """A valid model that this installation cannot run (operator set, operator)."""
    INVALID_SHAPE = "INVALID_SHAPE"
    """Open dimensions without a given shape, or a given shape that contradicts the model."""
    INVALID_INPUT = "INVALID_INPUT"
    """A request whose tensors do not fit the model."""
    INVALID_CLUSTER = "INVALID_CLUSTER"
    """A cluster file that cannot be used."""
    INVALID_PLAN = "INVALID_PLAN"
    """A plan file that cannot be used: damaged, of another version, or for another model or cluster."""
    INVALID_TRACES = "INVALID_TRACES"
    """A file of measurements (traces, a calibration) that cannot be used."""
    INVALID_STATE = "INVALID_STATE"
    """What a daemon kept in its state folder cannot be used: damaged, or of another version."""
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    """Any other argument out of its range."""
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_NOT_READY = "MODEL_NOT_READY"
    """Known, but not (or not yet) deployed."""
    MODEL_EXISTS = "MODEL_EXISTS"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """The model does not fit the devices' memory budgets."""
    TOO_LARGE = "TOO_LARGE"
    """A message, package or request over its limit, or one model too many."""
    OVERLOADED = "OVERLOADED"
    """A bounded queue is full; try again."""
    DEVICE_UNREACHABLE = "DEVICE_UNREACHABLE"
    """A device does not answer, or a link between two devices is down."""
    VERSION_MISMATCH = "VERSION_MISMATCH"
    """Master and worker speak different versions."""
    CORRUPT_PACKAGE = "CORRUPT_PACKAGE"
    """Content does not match its declared hash or size, or reaches outside of the package."""
    PERMISSION_DENIED = "PERMISSION_DENIED"
    """The caller's certificate is for a role that may not do this."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    EXECUTION_FAILED = "EXECUTION_FAILED"
    """onnxruntime refused or failed to run a subgraph."""
    PORT_IN_USE = "PORT_IN_USE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"
    """A defect of FlexPie."""


class FlexPieError(Exception):
    """A failure with a code, a text that names the cause, and what the user can do about it."""

    def __init__(self, code: ErrorCode, message: str, remedy: str = "", *, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.retry_seconds = retry_seconds
        """After which time the same call may succeed; None where nothing is known about that."""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[type[FlexPieError], tuple[ErrorCode, str, str], dict[str, float | None]]:
        return type(self), (self.code, self.message, self.remedy), {"retry_seconds": self.retry_seconds}
