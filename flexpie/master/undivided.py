"""Deployments on one device alone, of models that are divided otherwise: they need no link between devices."""

from __future__ import annotations

from dataclasses import replace

from flexpie.core.plan import Objective
from flexpie.core.strategy import SINGLE_DEVICE
from flexpie.master.events import DeviceName, PlanDistrusted
from flexpie.master.instructions import StartDeployment


def trusted(start: StartDeployment, distrusted: PlanDistrusted) -> StartDeployment:
    """On one of the devices that compute the same, if one is there."""
    devices = tuple(name for name in start.devices if name in distrusted.trusted) or start.devices
    return _undivided(start, devices, f"not divided any more: {distrusted.reason}")


def interim_of(start: StartDeployment) -> StartDeployment:
    """On the device that is the fastest alone, until the plan over all is ready."""
    return replace(_undivided(start, start.devices, "on one device until all are planned in"), interim=True)


def _undivided(start: StartDeployment, devices: tuple[DeviceName, ...], remark: str) -> StartDeployment:
    entry = replace(start.entry, scheme=SINGLE_DEVICE, objective=Objective.LATENCY.value, plan="")
    return replace(start, entry=entry, devices=devices, missing=frozenset(), only="", remark=remark)
