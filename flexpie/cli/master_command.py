"""`flexpie-master`: runs a master."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import click

from flexpie import __version__
from flexpie.cli.console import daemon_log, ending_daemon, parent_option
from flexpie.cli.tls_options import load_tls, tls_options
from flexpie.cli.worker_command import SizeType
from flexpie.core.heartbeat import LONGEST_PATIENCE_SECONDS, SHORTEST_PATIENCE_SECONDS
from flexpie.security.credentials import TlsFiles
from flexpie.security.roles import Role
from flexpie.wire.limits import MAX_CONNECTIONS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--cluster",
    required=True,
    type=click.Path(path_type=Path),
    help="Cluster file: the devices, and the models to serve.",
)
@click.option("--no-models", is_flag=True, help="Leave the cluster file's models away; they may be loaded later.")
@click.option(
    "--port",
    default=50050,
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
    "--state-dir",
    "--state",
    "state_folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Folder for what survives a restart: loaded models with their files, deployments, plans. Default: one for "
    "the port and the cluster file below ~/.local/state/flexpie; with --port 0 one that is gone afterwards.",
)
@click.option(
    "--request-timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="SECONDS",
    help="Deadline of a request whose client sets none.",
)
@click.option(
    "--max-requests",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="Requests held at once, waiting and running; more are refused for the moment.",
)
@click.option(
    "--max-model-requests",
    default=128,
    show_default=True,
    type=click.IntRange(1),
    help="How many of them may be of one model.",
)
@click.option(
    "--max-running", default=32, show_default=True, type=click.IntRange(1), help="Requests of one model run at once."
)
@click.option(
    "--max-held-bytes", default="1GiB", show_default=True, type=SizeType(), help="Inputs of all requests held at once."
)
@click.option(
    "--max-request-bytes", default="256MiB", show_default=True, type=SizeType(), help="Largest request to take."
)
@click.option(
    "--max-model-bytes", default="8GiB", show_default=True, type=SizeType(), help="Largest model that may be uploaded."
)
@click.option(
    "--max-models", default=64, show_default=True, type=click.IntRange(1),
    help="Models at once, those of the cluster file included; more are not loaded.",
)  # fmt: skip
@click.option(
    "--max-connections", default=MAX_CONNECTIONS, show_default=True, type=click.IntRange(1),
    help="Connections at once; more are closed.",
)  # fmt: skip
@click.option(
    "--startup-grace",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Time that devices have to connect before models are planned without them.",
)
@click.option(
    "--dead-after",
    type=click.FloatRange(SHORTEST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS),
    metavar="SECONDS",
    help="How long a device may say nothing before it counts as lost, instead of what the cluster file says.",
)
@click.option(
    "--standby/--no-standby",
    default=True,
    show_default=True,
    help="Prepare for the loss of each device, where there is the memory for it.",
)
@click.option(
    "--least-gain",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="By how much a plan must be better, as devices and links are now, to replace the one that serves.",
)
@click.option(
    "--drain-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How long requests may take to finish when the master is asked to end.",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What to log on stderr.",
)
@parent_option
@click.version_option(__version__, prog_name="flexpie-master")
def main(
    cluster: Path, no_models: bool, port: int, host: str, tls: TlsFiles | None, insecure: bool,
    state_folder: Path | None, request_timeout: float, max_requests: int, max_model_requests: int, max_running: int,
    max_held_bytes: int, max_request_bytes: int, max_model_bytes: int, max_models: int, max_connections: int,
    startup_grace: float, dead_after: float | None, standby: bool, least_gain: float, drain_seconds: float,
    log_level: str,
) -> None:  # fmt: skip
    """Run a master: plan the models of a cluster file over its devices, deploy them and answer requests.

    Prints "listening on HOST:PORT" when clients can connect; a model answers as soon as it is deployed. SIGTERM and
    Ctrl-C let requests in flight finish; a second Ctrl-C ends the master at once.
    """
    with daemon_log(log_level, encrypted=tls is not None), ending_daemon("flexpie-master"):
        from flexpie.master.admission import AdmissionLimits
        from flexpie.master.cluster_file import read_cluster_file
        from flexpie.master.daemon import DaemonOptions, serve
        from flexpie.master.master import Settings
        from flexpie.wire.state_folder import default_folder

        admission = AdmissionLimits(max_requests, min(max_model_requests, max_requests), max_running, max_held_bytes)
        settings = Settings(
            request_timeout, admission, startup_grace, standby, least_gain, dead_after, max_models=max_models
        )
        state_folder = state_folder or default_folder("master", port, cluster)
        credentials = load_tls(tls, [Role.MASTER])
        options = DaemonOptions(
            host, port, insecure, max_request_bytes, max_model_bytes, drain_seconds, state_folder, settings,
            credentials, max_connections,
        )  # fmt: skip
        file = read_cluster_file(cluster, require_models=not no_models)
        if no_models:
            file = dataclasses.replace(file, models=())
        asyncio.run(serve(file, options, lambda address: click.echo(f"listening on {address}")))


if __name__ == "__main__":
    main()
