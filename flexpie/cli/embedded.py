"""A whole FlexPie cluster on this machine, for demonstrations and checks: real daemons on loopback ports."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from flexpie.cli.processes import DaemonProcess
from flexpie.cli.tls_options import load_tls
from flexpie.security.credentials import TlsFiles
from flexpie.security.roles import Role

START_SECONDS = 60.0
"""How long a daemon may take until it listens."""
_EMBEDDED = ("--port", "0", "--log-level", "warning", "--with-parent")


class EmbeddedCluster:
    """Worker processes and a master process, ready when the `with` block begins, gone when it ends."""

    def __init__(self, workers: int = 0, cluster_file: Path | None = None, tls: TlsFiles | None = None) -> None:
        """Start `workers` local workers, or use those of a cluster file, with the certificate of a master.

        Raises ``INVALID_CLUSTER`` for a wrong file, ``INVALID_ARGUMENT`` for a certificate that is no master's.
        """
        load_tls(tls, [Role.MASTER])
        if cluster_file is not None:
            from flexpie.master.cluster_file import read_cluster_file

            read_cluster_file(cluster_file)  # what is wrong with it is not for the master's log
        self._count = workers
        self._cluster_file = cluster_file
        self._tls = tls
        self._stack = ExitStack()
        self.address = ""
        """Of the master."""
        self.cluster_path = Path()
        """The cluster file in use."""
        self.workers: list[DaemonProcess] = []

    def __enter__(self) -> EmbeddedCluster:
        with self._stack as stack:
            folder = Path(tempfile.mkdtemp(prefix="flexpie-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            for index in range(self._count):
                state = folder / f"worker-{index}"
                arguments = [*_EMBEDDED, "--state-dir", str(state)]
                worker = DaemonProcess("flexpie.cli.worker_command", arguments, f"worker {index}")
                self.workers.append(stack.enter_context(worker))
            addresses = [worker.address(START_SECONDS) for worker in self.workers]
            self.cluster_path = self._cluster_file or _write_cluster_file(folder, addresses)
            arguments = [*_EMBEDDED, "--cluster", str(self.cluster_path)]
            if self._cluster_file is not None:
                arguments.append("--no-models")
            if self._tls is not None:
                files = self._tls
                arguments += [
                    "--tls-ca",
                    str(files.ca),
                    "--tls-cert",
                    str(files.certificate),
                    "--tls-key",
                    str(files.key),
                ]
            master = DaemonProcess("flexpie.cli.master_command", arguments, "master")
            self.address = stack.enter_context(master).address(START_SECONDS)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()


def _write_cluster_file(folder: Path, addresses: list[str]) -> Path:
    """Equal devices on a fast link: loopback has no wire, but each message costs time."""
    lines = ["bandwidth: 10 Gbit/s", "latency: 50 us", "devices:"]
    for index, address in enumerate(addresses):
        lines += [f"  - name: local-{index}", f"    address: {address}"]
    path = folder / "cluster.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path
