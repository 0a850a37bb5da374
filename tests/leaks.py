"""What a test must give back: Python threads, child processes, INET sockets, open files.

Only what Python code of ours can close is counted. The native thread pools and event descriptors of gRPC's
core and of onnxruntime live as long as the process and are no leak. gRPC's Python threads go when the last
channel, server or call is gone, so they need no exception: a thread that stays shows an object that stays.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from dataclasses import dataclass

import psutil

VANISH_SECONDS = 5.0
"""How long things may take to go after a test: closing a gRPC channel or joining a thread takes a moment."""

_POLL_SECONDS = 0.01
_KEPT = ".ttf"
"""matplotlib keeps every font open that it has drawn with."""


@dataclass(frozen=True)
class Snapshot:
    """What this process holds at one moment."""

    threads: frozenset[threading.Thread]
    children: frozenset[psutil.Process]
    """Child processes and theirs."""
    sockets: frozenset[tuple[int, str]]
    """Descriptor and addresses of each listening or connected INET socket."""
    files: frozenset[tuple[int, str]]
    """Descriptor and path of each open regular file."""

    def __sub__(self, other: Snapshot) -> Snapshot:
        return Snapshot(
            threads=self.threads - other.threads,
            children=self.children - other.children,
            sockets=self.sockets - other.sockets,
            files=self.files - other.files,
        )

    def __bool__(self) -> bool:
        return bool(self.threads or self.children or self.sockets or self.files)

    def describe(self) -> list[str]:
        """One line for each thing held."""
        return [
            *sorted(_describe_thread(thread) for thread in self.threads),
            *sorted(_describe_child(child) for child in self.children),
            *(f"socket {descriptor}: {addresses}" for descriptor, addresses in sorted(self.sockets)),
            *(f"file {descriptor}: {path}" for descriptor, path in sorted(self.files)),
        ]


def take_snapshot() -> Snapshot:
    """What this process holds now."""
    process = psutil.Process()
    return Snapshot(
        threads=frozenset(threading.enumerate()),
        children=frozenset(process.children(recursive=True)),
        sockets=frozenset(
            (connection.fd, f"{_address(connection.laddr)} -> {_address(connection.raddr)}")
            for connection in process.net_connections(kind="inet")
        ),
        files=frozenset((file.fd, file.path) for file in process.open_files() if not file.path.endswith(_KEPT)),
    )


def leaked_since(before: Snapshot, vanish_seconds: float = VANISH_SECONDS) -> Snapshot:
    """What is held now and was not held before, once it had `vanish_seconds` to go by itself."""
    leaked = take_snapshot() - before
    deadline = time.monotonic() + vanish_seconds
    while leaked and time.monotonic() < deadline:
        gc.collect()  # what only a reference cycle holds is garbage, not a leak
        time.sleep(_POLL_SECONDS)
        leaked = take_snapshot() - before
    return leaked


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    place = f" in {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
    return f"thread {thread.name!r}{place}"


def _describe_child(child: psutil.Process) -> str:
    try:
        return f"child process {child.pid} ({child.status()}): {' '.join(child.cmdline())}"
    except psutil.Error:
        return f"child process {child.pid} (just gone)"


def _address(address: tuple[()] | tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}" if address else "*"
