"""Carries a schedule of faults out on a testbed."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.chaos.clocks import Clocks
from bench.chaos.records import Event
from bench.chaos.schedule import Fault, Kind
from flexpie.testbed import MASTER, Testbed
from flexpie.testbed.processes import HostProcess

SLOW_FACTOR = 0.1
MOST_AT_ONCE = 16

Mend = Callable[[], None]


class Injector:
    """Brings faults to a testbed and mends them, on time and side by side."""

    def __init__(self, bed: Testbed, clocks: Clocks, run_master: Callable[[], HostProcess]) -> None:
        """`run_master` starts a master like the one that runs; it listens when the call returns."""
        self.master = run_master()
        self._bed = bed
        self._crashed: list[str] = []
        self._clocks = clocks
        self._run_master = run_master
        self._network = threading.Lock()
        self._hosts: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def run(self, schedule: Sequence[Fault], started: float) -> list[Event]:
        """Carry faults out; returns what really happened when all are mended, whatever the machine's load did to it.

        `started` is the beginning of the run, on the clock of ``time.monotonic``.
        """
        with ThreadPoolExecutor(MOST_AT_ONCE, "fault") as threads:
            tasks = []
            for fault in schedule:
                time.sleep(max(0.0, started + fault.at - time.monotonic()))
                tasks.append(threads.submit(self._one, fault, started))
            return [task.result() for task in tasks]

    def crashes(self) -> list[str]:
        """A line about each daemon that ended though nobody killed it."""
        return self._crashed + [f"{name} ended by itself." for name, process in self._daemons() if not process.alive()]

    def _one(self, fault: Fault, started: float) -> Event:
        with ExitStack() as held:
            for host in sorted({fault.host, fault.other or fault.host}):
                held.enter_context(self._hosts[host])
            begun = time.monotonic()
            mend = self._inject(fault)
            time.sleep(fault.seconds)
            mend()
            mended = time.monotonic()
        return Event(fault.kind.value, str(fault), fault.host, fault.other, begun - started, mended - started)

    def _inject(self, fault: Fault) -> Mend:
        faults, host, other = self._bed.faults, fault.host, fault.other
        match fault.kind:
            case Kind.KILL | Kind.MASTER_KILL:
                self._kill(host)
                return lambda: self._restart(host)
            case Kind.STOP:
                faults.stop(host)
                return lambda: faults.resume(host)
            case Kind.CLOCK:
                self._clocks.jump(self._pid(host), fault.jump_seconds)
                return lambda: None
        with self._network:
            match fault.kind:
                case Kind.UNPLUG:
                    faults.unplug(host)
                    return lambda: self._repair(lambda: faults.plug(host))
                case Kind.CUT:
                    faults.cut(host, other)
                case Kind.ONE_WAY:
                    faults.cut_one_way(host, other)
                case _:
                    usual = next(known for known in self._bed.hosts if known.name == host).bandwidth_bits_per_second
                    faults.slow(host, usual * SLOW_FACTOR)
                    return lambda: self._repair(lambda: faults.quicken(host))
        return lambda: self._repair(lambda: faults.mend(host, other))

    def _repair(self, mend: Mend) -> None:
        with self._network:
            mend()

    def _kill(self, host: str) -> None:
        process = dict(self._daemons())[host]
        if not process.alive():
            self._crashed.append(f"{host} ended by itself.")
        process.kill()

    def _restart(self, host: str) -> None:
        if host == MASTER:
            self.master = self._run_master()
        else:
            self._bed.restart_worker(host)

    def _daemons(self) -> list[tuple[str, HostProcess]]:
        return [(MASTER, self.master), *((device.name, device.worker) for device in self._bed.devices)]

    def _pid(self, host: str) -> int:
        return dict(self._daemons())[host].pid
