"""`flexpie-worker`: runs a worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import uvloop

from flexpie import __version__
from flexpie.cli.console import daemon_log, ending_daemon, parent_option
from flexpie.cli.tls_options import load_tls, tls_options
from flexpie.security.credentials import TlsFiles
from flexpie.security.roles import Role
from flexpie.wire.limits import MAX_CONNECTIONS

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?|)b?", re.IGNORECASE)


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """Bytes: ``1500000``, ``1.5GB``, ``512MiB``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write it like 512MiB or 2GB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].lower()])


class PeerPort(click.IntRange):
    """A port, or ``off``, which is None."""

    name = "PORT|off"

    def __init__(self) -> None:
        super().__init__(0, 65535)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "off" else super().convert(value, param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--port",
    default=50051,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes any free one.",
)
@click.option("--host", default="localhost", show_default=True, help="Address to listen on.")
@tls_options
@click.option(
    "--insecure", is_flag=True, help="Without --tls-dir: let everybody who reaches the port do everything, unencrypted."
)
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Threads that run one operator."
)
@click.option(
    "--memory",
    default="0",
    type=SizeType(),
    help="What weights and activations may take, such as 512MiB; 0 is no limit.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the worker's identity and cached packages.",
)
@click.option(
    "--store-bytes", default="4GiB", show_default=True, type=SizeType(), help="What cached packages may take on disk."
)
@click.option(
    "--max-message-bytes", default="256MiB", show_default=True, type=SizeType(), help="Largest message to take or send."
)
@click.option(
    "--max-connections", default=MAX_CONNECTIONS, show_default=True, type=click.IntRange(1),
    help="Connections at once; more are closed.",
)  # fmt: skip
@click.option(
    "--drain-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How long requests may take to finish when the worker is asked to end.",
)
@click.option(
    "--peer-port",
    default="0",
    show_default=True,
    type=PeerPort(),
    help="Port for tensors from other workers, which cost less there; 0 takes any free one, 'off' opens none. Workers "
    "that cannot reach it use --port.",
)
@click.option(
    "--unix-socket/--no-unix-socket",
    default=True,
    show_default=True,
    help="Whether workers on the same machine send theirs through a Unix socket (Linux only).",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What to log on stderr.",
)
@parent_option
@click.version_option(__version__, prog_name="flexpie-worker")
def main(
    port: int,
    host: str,
    tls: TlsFiles | None,
    insecure: bool,
    threads: int,
    memory: int,
    state_dir: Path | None,
    store_bytes: int,
    max_message_bytes: int,
    max_connections: int,
    drain_seconds: float,
    peer_port: int | None,
    unix_socket: bool,
    log_level: str,
) -> None:
    """Run a worker: one device's part of every inference, at a master's request.

    Prints "listening on HOST:PORT" when it is ready. SIGTERM and Ctrl-C let requests in flight finish; a second
    Ctrl-C ends the worker at once.
    """
    with daemon_log(log_level, encrypted=tls is not None), ending_daemon("flexpie-worker"):
        from flexpie.worker.daemon import WorkerSettings, serve

        settings = WorkerSettings(
            host, port, insecure, threads, memory, state_dir, store_bytes, max_message_bytes, max_connections,
            drain_seconds, peer_port, unix_socket, load_tls(tls, [Role.WORKER]),
        )  # fmt: skip
        # Its loop takes less of the processor for each message than Python's own.
        uvloop.run(serve(settings, lambda address: click.echo(f"listening on {address}")))


if __name__ == "__main__":
    main()
