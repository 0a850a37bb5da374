"""Who reaches whom on a testbed, and what is left of one."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from flexpie import testbed
from flexpie.testbed import namespaces
from flexpie.testbed.cpu import find_cpu_controller
from flexpie.testbed.naming import Names

PATIENCE_SECONDS = 20.0
"""How long a datagram that should arrive is sent again; a link takes a moment to come up."""
SILENCE_SECONDS = 0.3
"""How long to wait for one that should not."""


def arrives(bed: testbed.Testbed, source: str, destination: str, patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether one of the datagrams that a host sends to another one arrives."""
    hosts = {host.name: host for host in bed.hosts}
    start, end = hosts[source], hosts[destination]

    def make() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    with namespaces.call_in(end.namespace, make) as receiver, namespaces.call_in(start.namespace, make) as sender:
        receiver.bind((end.address, 0))
        receiver.settimeout(SILENCE_SECONDS)
        deadline = time.monotonic() + patience_seconds
        while True:
            sender.sendto(b"hello", receiver.getsockname())
            try:
                return receiver.recv(16) == b"hello"
            except TimeoutError:
                if time.monotonic() > deadline:
                    return False


def is_lost(bed: testbed.Testbed, source: str, destination: str) -> bool:
    """Whether what a host sends to another one does not arrive."""
    return not arrives(bed, source, destination, patience_seconds=0.0)


def remains(run: str) -> list[str]:
    """What is there of a testbed: namespaces, their processes, control groups."""
    names = Names(run)
    root = find_cpu_controller(Path("/proc/mounts").read_text()).root
    found = [name for name in namespaces.existing() if names.owns(name)]
    found += [f"process {pid}" for pid in processes_with(run)]
    return found + [str(root / names.cgroup)] * (root / names.cgroup).exists()


def processes_with(text: str) -> list[int]:
    """Processes that have this text in their command line, except this one."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(pid)
    return found
