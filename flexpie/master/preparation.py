"""The standby that is being made."""

from __future__ import annotations

from dataclasses import dataclass

from flexpie.master.deployment_record import DeploymentRecord
from flexpie.master.events import DeviceName
from flexpie.master.records import ProfileRecord


@dataclass
class Preparation:
    """A standby on its way, in the background: it gives way to any deployment that is to serve."""

    lost: DeviceName
    """The device whose loss it is for."""
    profile: ProfileRecord
    record: DeploymentRecord
    pushed_only: bool
    """Whether there is no room for it beside what runs: its packages are pushed, so that little is left to do."""
