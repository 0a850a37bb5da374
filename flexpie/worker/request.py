"""One request's walk through its program, as a pure value: which steps can be done with the frames that are here."""

from __future__ import annotations

from dataclasses import dataclass, field

from flexpie.core.program import DeviceProgram, Receive, Release, Run, Send, Step
from flexpie.wire.framing import Buffer
from flexpie.worker.events import Execute, RequestKey

Slot = tuple[int, int]
"""Exchange and source of a message: each comes once per request."""


@dataclass
class Request:
    """Where a request stands in its program."""

    key: RequestKey
    program: DeviceProgram
    deadline: float
    arrival: int
    """Counts requests in the order in which they came; the smaller one computes first."""
    started_at: float
    position: int = 0
    """Index of the next step."""
    mailbox: dict[Slot, Buffer] = field(default_factory=dict)
    """Payloads that no step has taken yet."""
    awaited: set[Slot] = field(default_factory=set)
    """Messages that have not come yet."""
    releases: list[Step] = field(default_factory=list)
    """Releases passed on the way to a `Send`; they go along with the next batch."""
    batch_stop: int = 0
    """Where the batch stops that is being executed."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes in the mailbox."""
        return sum(map(len, self.mailbox.values()))

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.position == len(self.program.steps)

    def pass_sends(self) -> list[Send]:
        """Step over everything that needs no execution; returns the messages to send."""
        sends = []
        steps = self.program.steps
        while self.position < len(steps):
            step = steps[self.position]
            if isinstance(step, Send):
                sends.append(step)
            elif isinstance(step, Release):
                self.releases.append(step)
            else:
                break
            self.position += 1
        return sends

    def executable_stop(self) -> int:
        """Where the steps stop that can be executed now; equals `position` when nothing can.

        A batch goes up to the next `Send`. Where a message is missing, it is worth while to begin only if that
        computes something before the wait.
        """
        steps, runs = self.program.steps, False
        for index in range(self.position, len(steps)):
            match steps[index]:
                case Send():
                    return index
                case Receive(exchange, source) if (exchange, source) not in self.mailbox:
                    return index if runs else self.position
                case Run():
                    runs = True
        return len(steps)

    def take_batch(self) -> Execute:
        """The next batch, with the payloads that it receives."""
        self.batch_stop = self.executable_stop()
        steps = self.program.steps[self.position : self.batch_stop]
        payloads = tuple(self.mailbox.pop((step.exchange, step.source)) for step in steps if isinstance(step, Receive))
        released, self.releases = self.releases, []
        return Execute(self.key, (*released, *steps), payloads)
