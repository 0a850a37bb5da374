"""What a run leaves behind: every request, every fault, and what the daemons held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ANSWERED = "answered"
WRONG = "WRONG"
"""Not what the unsplit model answers."""
HANGING = "HANGING"
"""Neither answer nor error within the deadline and some grace."""
UNTYPED = "UNTYPED"
"""An exception that is no FlexPieError."""


@dataclass(frozen=True)
class Request:
    """One request of a client."""

    client: int
    model: str
    started: float
    """Seconds after the beginning of the run, as is `ended`."""
    ended: float
    outcome: str
    """`ANSWERED`, `WRONG`, `HANGING`, `UNTYPED`, or the code of the error that it was refused with."""
    message: str = ""
    """Of the error."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True)
class Event:
    """A fault as it really came."""

    kind: str
    text: str
    host: str
    other: str
    began: float
    """Seconds after the beginning of the run, as is `mended`."""
    mended: float
    """When it was mended; for a daemon that was killed, when it listened again."""


@dataclass(frozen=True)
class Afterwards:
    """What is there when all faults are mended and nobody asks any more."""

    recovered_seconds: float | None
    """From the last fault's end until every model was ready on every device; None is never."""
    states: dict[str, str]
    """Of each device, as the master says."""
    in_flight: dict[str, int]
    """Requests that the master and each worker still hold."""
    right_answers: int
    """Of the requests that were made at last, one for each client and model."""
    last_requests: int


def write_requests(path: Path, requests: Iterable[Request]) -> None:
    """As JSON lines."""
    path.write_text("".join(json.dumps(asdict(request)) + "\n" for request in requests))


def read_requests(path: Path) -> Iterator[Request]:
    """The reverse of `write_requests`."""
    for line in path.read_text().splitlines():
        yield Request(**json.loads(line))
