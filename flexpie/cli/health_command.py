"""`flexpie health`: asks a daemon whether it serves; made for health checks of containers and service managers."""

from __future__ import annotations

import sys

import click

from flexpie.cli.console import fail, quieten_libraries
from flexpie.cli.tls_options import load_tls, tls_options
from flexpie.core.errors import FlexPieError
from flexpie.security.credentials import TlsFiles


@click.command()
@click.argument("address", metavar="HOST:PORT")
@tls_options
@click.option(
    "--timeout",
    "timeout_seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0.001),
    help="How long to wait for an answer, in seconds.",
)
def health(address: str, tls: TlsFiles | None, timeout_seconds: float) -> None:
    """Ask the worker or master at HOST:PORT whether it is ready. Exit code 0: it is."""
    quieten_libraries()
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from flexpie.client.messages import check_address
    from flexpie.security.channels import open_channel
    from flexpie.wire.limits import channel_options
    from flexpie.wire.status import error_from_rpc

    try:
        check_address(address)
        with open_channel(address, channel_options(), load_tls(tls)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
    except FlexPieError as error:
        fail(error)
    except grpc.RpcError as error:
        click.echo(f"unreachable: {error_from_rpc(error, address)}", err=True)
        sys.exit(1)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    click.echo(status.lower().replace("_", " "))
    sys.exit(0 if reply.status == health_pb2.HealthCheckResponse.SERVING else 1)
