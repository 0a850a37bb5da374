"""Keeps standbys ready: one is made at a time, when nothing else is to be done and nothing was lost for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from flexpie.core.errors import ErrorCode
from flexpie.master.deployment_record import DeploymentRecord
from flexpie.master.events import (
    DeploymentEvent,
    DeploymentFailed,
    DeploymentId,
    DeploymentPlanned,
    DeploymentReady,
    DeviceName,
    StageReached,
)
from flexpie.master.instructions import AbandonDeployment, Instruction, ScheduleCalm, StartDeployment
from flexpie.master.link_health import LinkHealth
from flexpie.master.membership import Membership
from flexpie.master.preparation import Preparation
from flexpie.master.records import ProfileRecord
from flexpie.master.standbys import reserved_by

CALM_SECONDS = 2.0
"""After a loss, before the next one is prepared for."""


class Host(Protocol):
    """The part of a `flexpie.master.state.MasterState` that standbys are kept for."""

    members: Membership
    links: LinkHealth

    def profiles(self) -> Iterable[ProfileRecord]:
        """Of all models."""

    def new_identity(self) -> DeploymentId:
        """For a deployment."""

    def retire(self, deployment: DeploymentRecord) -> None:
        """Remove a deployment, after its last request."""

    def say(self, instruction: Instruction) -> None:
        """Have something done."""


class StandbyKeeper:
    """Makes and drops the standbys of all profiles."""

    def __init__(self, host: Host, *, enabled: bool) -> None:
        self._host = host
        self._enabled = enabled
        self._preparing: Preparation | None = None
        self._calm = True
        self._losses = 0

    def prepare(self) -> None:
        """Begin with the next standby, if one is missing and none is on its way."""
        host = self._host
        if not self._enabled or self._preparing or not self._calm or not host.members.settled:
            return
        for profile in host.profiles():
            if profile.distrusted:
                continue  # a standby would be divided
            lost = profile.standbys.next_to_prepare(profile.serving, host.members.connected)
            if lost is not None:
                self._begin(profile, lost, pushed_only=False)
                return

    def take(self, event: DeploymentEvent) -> bool:
        """Take in news of a deployment; returns whether it is the standby on its way."""
        preparing = self._preparing
        if preparing is None or preparing.record.id != event.deployment:
            return False
        record, standbys = preparing.record, preparing.profile.standbys
        match event:
            case StageReached(_, stage):
                record.stage = stage
            case DeploymentPlanned(_, plan):
                record.plan = plan
            case DeploymentReady(_, resident_bytes, pushed_bytes):
                record.resident_bytes, record.pushed_bytes = resident_bytes, pushed_bytes
                self._preparing = None
                if preparing.pushed_only:
                    standbys.settled.add(preparing.lost)
                else:
                    standbys.ready[preparing.lost] = record
            case DeploymentFailed(_, failure):
                self._preparing = None
                if failure.code is ErrorCode.OUT_OF_MEMORY and not preparing.pushed_only:
                    self._begin(preparing.profile, preparing.lost, pushed_only=True)
                else:
                    standbys.settled.add(preparing.lost)
        return True

    def wait_for_calm(self) -> None:
        """Something was lost: what is run again now needs the devices more than what is prepared for the next loss."""
        if self._enabled:
            self._calm = False
            self._losses += 1
            self._host.say(ScheduleCalm(self._losses, CALM_SECONDS))

    def calm_returned(self, loss: int) -> None:
        """The time after a loss is over; only the last one counts."""
        self._calm = self._calm or loss == self._losses

    def stop(self, of: Callable[[DeploymentRecord], bool] = lambda _: True) -> None:
        """Give up the standby on its way, if it is one of these."""
        if self._preparing and of(self._preparing.record):
            self._host.say(AbandonDeployment(self._preparing.record.id))
            self._preparing = None

    def drop(self, profile: ProfileRecord) -> None:
        """Give up all standbys of a profile."""
        if self._preparing and self._preparing.profile is profile:
            self.stop()
        for standby in profile.standbys.drop():
            self._host.retire(standby)

    def _begin(self, profile: ProfileRecord, lost: DeviceName, *, pushed_only: bool) -> None:
        host = self._host
        if (stale := profile.standbys.ready.pop(lost, None)) is not None:
            host.retire(stale)
        devices = tuple(name for name in host.members.connected if name != lost)
        missing = frozenset(link for link in host.links.missing if set(link) <= set(devices))
        record = DeploymentRecord(host.new_identity(), devices, missing)
        self._preparing = Preparation(lost, profile, record, pushed_only)
        reserved = reserved_by(self._beside(profile, pushed_only=pushed_only))
        host.say(
            StartDeployment(record.id, profile.model.entry, devices, reserved, profile.index, (), missing,
                            standby=True, pushed_only=pushed_only)
        )  # fmt: skip

    def _beside(self, profile: ProfileRecord, *, pushed_only: bool) -> list[DeploymentRecord]:
        """What a standby has to leave room for."""
        profiles = list(self._host.profiles())
        serving = [other.serving for other in profiles if other.serving]
        if pushed_only:  # it is planned as it will be: then the profile's place is free, and that of standbys
            return [running for running in serving if running is not profile.serving]
        return serving + [standby for other in profiles for standby in other.standbys.ready.values()]
