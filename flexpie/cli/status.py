"""`flexpie status`: what a running master sees."""

from __future__ import annotations

import dataclasses

import click

from flexpie.cli.console import json_option, master_option, print_json, reporting


@click.command()
@master_option
@json_option
@reporting
def status(address: str, as_json: bool) -> None:
    """Show devices, models and requests of a running master."""
    from flexpie.client import Client

    with Client(address) as client:
        found = client.status()
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    click.echo(
        f"flexpie-master {found.version} at {address}, up {found.uptime_seconds:.0f} s: "
        f"{found.requests_in_flight} requests in flight, {found.requests_done} done, {found.requests_failed} failed"
    )
    for device in found.devices:
        why = f" ({device.reason})" if device.reason else ""
        click.echo(f"  device {device.name:16} {device.address:24} {device.state}{why}")
    for model in found.models:
        why = f" ({model.reason})" if model.reason else ""
        where = f" on {', '.join(model.devices)}, {len(model.segments)} segments" if model.devices else ""
        click.echo(f"  model  {model.name:16} {model.state}{why}{where}")
