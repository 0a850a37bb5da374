"""Real daemons for tests: processes on ports of their own, with logs that a failing test shows."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

START_SECONDS = 60.0
"""How long a daemon may take until it listens, on a busy machine."""
STOP_SECONDS = 20.0
WAIT_SECONDS = 60.0
"""How long a test waits for something that should come soon."""

_LISTENING = re.compile(r"^listening on (\S+)$")


class Daemon:
    """A process of ours; use it in a `with` block, so that it is gone afterwards."""

    def __init__(self, module: str, arguments: Sequence[str], log_path: Path) -> None:
        """Start ``python -m module arguments...``; its stderr goes to `log_path`."""
        self.log_path = log_path
        self.stdout: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"{module} stdout", daemon=True)
        self._reader.start()
        self._address = ""

    @property
    def address(self) -> str:
        """``host:port`` of the daemon, once it listens."""
        deadline = time.monotonic() + START_SECONDS
        while not self._address:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not listening after {START_SECONDS} s:\n{self.log}") from None
            if line is None:
                code = self.process.wait(STOP_SECONDS)
                raise AssertionError(f"ended with code {code}:\n{self.log}")
            if found := _LISTENING.match(line):
                self._address = found[1]
        return self._address

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it wrote on stderr so far."""
        return self.log_path.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without warning, and wait until it is gone."""
        self.process.kill()
        self.wait()

    def wait(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Wait until it has ended; returns its exit code."""
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_seconds} s:\n{self.log}") from None
        self._reader.join(STOP_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and wait; returns its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.stdout.append(line.rstrip("\n"))
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- {self.log_path.name}\n{self.log}\n")
        try:
            if self.process.poll() is None:
                self.stop()
            else:
                self.wait()
        except AssertionError:
            self.kill()
            raise


def start_worker(folder: Path, name: str, *arguments: str, port: int = 0) -> Daemon:
    """A worker whose state and log are kept in the folder under its name; started again it is the same worker."""
    state = folder / f"{name}-state"
    words = ["--port", str(port), "--state-dir", str(state), *arguments]
    return Daemon("flexpie.cli.worker_command", words, folder / f"{name}.log")


def start_master(folder: Path, cluster_file: Path, *arguments: str, port: int = 0) -> Daemon:
    """A master for a cluster file. A machine that runs tests may be very busy, so it is patient with workers, and makes
    no standbys unless it is told to."""
    words = ["--port", str(port), "--cluster", str(cluster_file), "--dead-after", "10", "--no-standby", *arguments]
    return Daemon("flexpie.cli.master_command", words, folder / "master.log")


def write_cluster_file(folder: Path, devices: dict[str, str], more: str = "") -> Path:
    """A cluster file with these devices (name → address) on a fast link, and `more` lines below."""
    lines = ["bandwidth: 10 Gbit/s", "latency: 50 us", "devices:"]
    lines += [f"  - {{name: {name}, address: '{address}'}}" for name, address in devices.items()]
    path = folder / "cluster.yaml"
    path.write_text("\n".join(lines) + "\n" + more)
    return path


class LocalCluster:
    """Workers and a master on this machine."""

    def __init__(self, folder: Path, workers: dict[str, Daemon], master: Daemon) -> None:
        self.folder = folder
        self.workers = workers
        self.master = master

    @property
    def address(self) -> str:
        """Of the master."""
        return self.master.address

    def restart_worker(self, name: str) -> None:
        """Start a worker that has ended again, on its old port."""
        port = self.workers[name].port
        worker = start_worker(self.folder, name, port=port)
        self.workers[name] = worker
        assert worker.port == port


@contextmanager
def local_cluster(
    folder: Path,
    workers: int,
    more: str = "",
    master_arguments: Sequence[str] = (),
    worker_arguments: Sequence[str] = (),
) -> Iterator[LocalCluster]:
    """Workers named a, b, c ... and a master that serves what `more` adds to the cluster file."""
    names = "abcdefgh"[:workers]
    started: dict[str, Daemon] = {}
    try:
        for name in names:
            started[name] = start_worker(folder, name, *worker_arguments)
        file = write_cluster_file(folder, {name: worker.address for name, worker in started.items()}, more)
        with start_master(folder, file, *master_arguments) as master:
            cluster = LocalCluster(folder, started, master)
            yield cluster
    except BaseException:
        for worker in started.values():
            sys.stderr.write(f"--- {worker.log_path.name}\n{worker.log}\n")
        raise
    finally:
        for worker in started.values():
            if worker.process.stdout and not worker.process.stdout.closed:
                worker.stop()


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float = WAIT_SECONDS) -> None:
    """Ask again and again until the condition holds; fails after the timeout, saying what was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {what}"
        time.sleep(0.02)
