"""Emulated devices on one Linux machine: real workers with their own addresses, CPU quotas and shaped links."""

from flexpie.testbed.description import MASTER, Description, DeviceDescription, uniform
from flexpie.testbed.testbed import EmulatedDevice, Testbed

__all__ = ["MASTER", "Description", "DeviceDescription", "EmulatedDevice", "Testbed", "uniform"]
