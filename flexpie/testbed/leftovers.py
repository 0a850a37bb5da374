"""Removing a testbed, whole or half built, in use or left by a crash: always the same way, by its run's names."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import namespaces
from flexpie.testbed.cpu import CpuController
from flexpie.testbed.naming import Names
from flexpie.testbed.records import Records, RunRecord

END_SECONDS = 30.0
"""How long the owner of a testbed may take to remove it."""

_POLL_SECONDS = 0.05


def remove_testbed(record: RunRecord, records: Records, controller: CpuController) -> None:
    """Remove everything that a testbed may have made, and forget it. What is not there is no mistake."""
    names = Names(record.run)
    owned = [name for name in namespaces.existing() if names.owns(name)]
    namespaces.end_processes_in(owned)
    for name in owned:
        namespaces.remove(name)
    controller.remove(names.cgroup)
    if record.owns_folder:
        shutil.rmtree(record.folder, ignore_errors=True)
    records.forget(record.run)


def remove_leftovers(records: Records, controller: CpuController) -> list[str]:
    """Remove the testbeds whose owner is gone; returns their ids."""
    gone = [record for record in records.all() if not record.owner.alive]
    for record in gone:
        remove_testbed(record, records, controller)
    return [record.run for record in gone]


def end_testbed(record: RunRecord, records: Records, controller: CpuController) -> None:
    """Have its owner remove a testbed, or remove it when there is no owner.

    Raises FlexPieError(DEADLINE_EXCEEDED) when the owner does not.
    """
    if record.owner.alive:
        with suppress(ProcessLookupError):
            os.kill(record.owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while record.owner.alive and records.knows(record.run):
        if time.monotonic() > deadline:
            raise FlexPieError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"Process {record.owner.pid}, which keeps testbed {record.run}, did not end it in {END_SECONDS:g} s.",
                f"Kill it (kill -9 {record.owner.pid}), and run 'flexpie testbed down {record.run}' again.",
            )
        time.sleep(_POLL_SECONDS)
    if records.knows(record.run):
        remove_testbed(record, records, controller)
