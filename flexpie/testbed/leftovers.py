"""Removing a testbed, whole or half built, in use or left by a crash: always the same way, by its run's names."""

from __future__ import annotations

import shutil

from flexpie.testbed import namespaces
from flexpie.testbed.cpu import CpuController
from flexpie.testbed.naming import Names
from flexpie.testbed.records import Records, RunRecord


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
