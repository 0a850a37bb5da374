"""What the master's state remembers of one deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flexpie.master.events import DeploymentId, DeviceName, LinkName, PlanSummary, RequestId


@dataclass
class DeploymentRecord:
    """One attempt to serve a profile of a model, from its start until it is removed."""

    id: DeploymentId
    devices: tuple[DeviceName, ...]
    """What it was planned over."""
    missing: frozenset[LinkName] = frozenset()
    """Links that its plan was not to use."""
    plan: PlanSummary | None = None
    stage: str = "import"
    done: int = 0
    total: int = 0
    unit: str = ""
    resident_bytes: Mapping[DeviceName, int] = field(default_factory=dict)
    pushed_bytes: int = 0
    requests: set[RequestId] = field(default_factory=set)
    """In flight on it."""
    interim: bool = False
    """Whether it is on one device, to serve until the plan over all devices is ready."""
    resumed: bool = False
    """Whether it is one of an earlier run of the master, which its workers have built already."""
    paused: bool = False
    """Whether requests wait because a run on it was disturbed a moment ago."""
    outdated: bool = False
    """Whether it is of a time when devices or links were faster or slower: it is better than nothing until it is made
    anew."""
    had: tuple[DeviceName, ...] = ()
    """Participants that it goes on without."""

    def needs(self, device: DeviceName) -> bool:
        """Whether it cannot go on without a device."""
        return device in (self.devices if self.plan is None else self.plan.participants)

    def go_on_without(self, device: DeviceName) -> bool:
        """Do without a participant, if the others do not need it; returns whether that is so. Where it returns, all are
        planned in again."""
        plan = self.plan
        if plan is None or not plan.takes_turns or device not in plan.participants:
            return False
        self.plan = replace(plan, participants=tuple(name for name in plan.participants if name != device))
        self.devices = tuple(name for name in self.devices if name != device)
        self.had = (*self.had, device)
        return True

    def uses(self, link: LinkName) -> bool:
        """Whether it sends anything over a link."""
        if self.plan is None:
            return not self.interim and link not in self.missing
        return link in self.plan.links
