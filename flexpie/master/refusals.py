"""Why a request is not answered, and what the user can do."""

from __future__ import annotations

from collections.abc import Iterable

from flexpie.core.errors import ErrorCode
from flexpie.wire.framing import Failure

SOON_SECONDS = 0.2
"""After which time it is worth while to ask for a model again that is on its way."""


def unknown_model(name: str, known: Iterable[str]) -> Failure:
    """No model has this name."""
    return Failure(
        ErrorCode.MODEL_NOT_FOUND, f"There is no model {name!r}.", f"Models here: {', '.join(known) or 'none'}."
    )


def not_ready(name: str, state: str, reason: str, *, soon: bool) -> Failure:
    """The model cannot be asked now; `soon` tells whether it is on its way."""
    remedy = "Send the request again when it is ready." if soon else ""
    text = f"Model {name} is not ready ({state}): {reason.rstrip('.')}."
    return Failure(ErrorCode.MODEL_NOT_READY, text, remedy, SOON_SECONDS if soon else None)


def unloaded(name: str) -> Failure:
    """The model was unloaded while the request waited."""
    return Failure(ErrorCode.MODEL_NOT_READY, f"Model {name} was unloaded.")


def device_lost(name: str, reason: str) -> Failure:
    """A device that works on the request is gone."""
    return Failure(
        ErrorCode.DEVICE_UNREACHABLE,
        f"Device {name} was lost while it worked on the request: {reason}",
        "Send the request again: the model is planned anew for the devices that are left, if it fits them.",
    )


def link_lost(source: str, destination: str) -> Failure:
    """A link that the request needs does not work."""
    return Failure(
        ErrorCode.DEVICE_UNREACHABLE,
        f"Device {source} does not reach device {destination}.",
        "Check the network between the two; the model is planned anew without that link.",
    )


def distrusted(reason: str) -> Failure:
    """The plan that the request ran on gives wrong answers."""
    return Failure(ErrorCode.MODEL_NOT_READY, f"The plan was taken out of service: {reason}.", "Send it again.")


def shutting_down() -> Failure:
    """The master takes no more requests."""
    return Failure(ErrorCode.SHUTTING_DOWN, "The master is shutting down.", "Send the request to a running master.")
