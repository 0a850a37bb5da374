"""`flexpie status`: what a running master sees."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from flexpie.cli.console import counted, json_option, master_option, print_json, reporting
from flexpie.cli.load import described_inputs, rounding
from flexpie.cli.tls_options import tls_options
from flexpie.security.credentials import expiry_warning

if TYPE_CHECKING:
    from flexpie.client import ModelInfo, ProfileInfo
    from flexpie.security.credentials import TlsFiles


@click.command()
@master_option
@tls_options
@json_option
@reporting
def status(address: str, tls: TlsFiles | None, as_json: bool) -> None:
    """Show devices, models and requests of a running master."""
    from flexpie.client import Client

    with Client(address, tls=tls) as client:
        found = client.status()
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    click.echo(
        f"flexpie-master {found.version} at {address}, up {found.uptime_seconds:.0f} s: "
        f"{counted(found.requests_in_flight, 'request')} in flight, {found.holdings.waiting} waiting, "
        f"{found.requests_done} done, {found.requests_failed} failed, {found.requests_refused} refused"
        f"{_certificate(found.certificate_expires_at)}"
    )
    if found.batches:
        click.echo(f"  batched: {found.batched_requests} requests in {counted(found.batches, 'run')}")
    if found.answers_wrong:
        click.echo(f"  ALARM: {found.answers_wrong} of {found.answers_checked} checked answers were wrong")
    for device in found.devices:
        reason = device.reason.removeprefix(f"device {device.name} ({device.address}) ").rstrip(".")
        why = f" ({reason})" if reason else ""
        ends = _certificate(device.certificate_expires_at)
        click.echo(f"  device {device.name:16} {device.address:24} {device.state}{why}{ends}")
    for model in found.models:
        several = len(model.profiles) > 1
        how = f": {len(model.profiles)} profiles, {_memory(model)}" if several else _how(model.profiles[0])
        click.echo(f"  model  {model.name:16} {model.state}{_why(model)}{how}")
        for profile in model.profiles if several else ():
            click.echo(f"    {described_inputs(profile)}  {profile.state}{_why(profile)}{_how(profile)}")


def _certificate(expires_at: int | None) -> str:
    """What there is to say about a certificate that ends soon."""
    if expires_at is None:
        return ""
    end = datetime.fromtimestamp(expires_at, timezone.utc)
    warning = expiry_warning(end, datetime.now(timezone.utc))
    return f"; its certificate {warning}" if warning else ""


def _why(item: ModelInfo | ProfileInfo) -> str:
    return f" ({item.reason})" if item.reason else ""


def _how(profile: ProfileInfo) -> str:
    if not profile.devices:
        return ""
    remark = f" ({profile.remark})" if profile.remark else ""
    where = f" on {', '.join(profile.devices)}, {counted(len(profile.segments), 'segment')}"
    return f"{where}, {_memory(profile)}{rounding(profile)}{remark}"


def _memory(item: ModelInfo | ProfileInfo) -> str:
    """What it takes of the device that it takes most of."""
    return f"up to {max(item.resident_bytes.values(), default=0) / 1e6:.1f} MB of a device"
