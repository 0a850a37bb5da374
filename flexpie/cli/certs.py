"""`flexpie certs`: a private certificate authority, and one certificate for each device and user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import json_option, print_json, reporting
from flexpie.security.roles import Role

if TYPE_CHECKING:
    from flexpie.security.credentials import Certificate

_DIRECTORY = click.option(
    "--dir", "folder", default="certs", show_default=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the authority.",
)  # fmt: skip


@click.group()
def certs() -> None:
    """Make the certificates with which masters, workers and clients know one another."""


@certs.command()
@_DIRECTORY
@click.option("--name", default="FlexPie", show_default=True, help="What the authority calls itself.")
@click.option("--days", default=3650, show_default=True, type=click.IntRange(1, 36500), help="How long it is valid.")
@reporting
def init(folder: Path, name: str, days: int) -> None:
    """Make a certificate authority: ca.crt, and ca.key, which must stay secret."""
    from flexpie.security.authority import create_authority

    path = create_authority(folder, name, days)
    click.echo(f"{path} is the new authority. Keep {path.with_suffix('.key')} off the devices.")


@certs.command()
@click.argument("role", type=click.Choice([role.value for role in Role]))
@_DIRECTORY
@click.option("--name", help="Name of the device or user.  [default: the role]")
@click.option(
    "--address", "addresses", multiple=True, metavar="HOST",
    help="Host name or IP address of a master or worker, as others call it. May be given several times.",
)  # fmt: skip
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 36500), help="How long it is valid.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder to make.  [default: ROLE-NAME in --dir]"
)
@reporting
def issue(
    role: str, folder: Path, name: str | None, addresses: tuple[str, ...], days: int, output: Path | None
) -> None:
    """Issue a certificate for a device or a user, in a folder that --tls-dir takes.

    A client may ask models and look at them; an operator may load and unload them, too. Workers need --address, and
    a master that is reached from other machines: whoever connects compares it with the address that it called.
    """
    from flexpie.security.authority import issue as issue_certificate

    target = issue_certificate(folder, Role(role), name or role, addresses, days, output)
    click.echo(f"{target} is ready. Copy the folder to where it is used, and give it as --tls-dir.")


@certs.command()
@click.argument("path", default="certs", type=click.Path(path_type=Path))
@json_option
@reporting
def show(path: Path, as_json: bool) -> None:
    """Show whose the certificates of a file or folder are, and until when. Exit code 1: one has expired."""
    from flexpie.security.certificates import read_certificate
    from flexpie.security.credentials import now

    files = sorted(path.rglob("*.crt")) if path.is_dir() else [path]
    own = [file for file in files if file.name != "ca.crt" or not (file.parent / "tls.crt").exists()]
    found = {file: read_certificate(file) for file in own}
    if as_json:
        print_json({"certificates": [_as_json(file, item) for file, item in found.items()]})
    else:
        for file, item in found.items():
            click.echo(_line(file, item))
        if not found:
            click.echo(f"There are no certificates in {path}.")
    raise SystemExit(int(any(item.expires <= now() for item in found.values())))


def _line(file: Path, certificate: Certificate) -> str:
    from flexpie.security.credentials import expiry_warning, now

    until = expiry_warning(certificate.expires, now()) or f"until {certificate.expires:%Y-%m-%d}"
    addresses = f" at {', '.join(certificate.addresses)}" if certificate.addresses else ""
    return f"{file}  {_kind(certificate)} {certificate.name}{addresses}, {until}"


def _as_json(file: Path, certificate: Certificate) -> dict[str, Any]:
    return {
        "file": str(file),
        "role": _kind(certificate),
        "name": certificate.name,
        "addresses": list(certificate.addresses),
        "valid_from": certificate.valid_from.isoformat(),
        "expires": certificate.expires.isoformat(),
    }


def _kind(certificate: Certificate) -> str:
    if certificate.is_authority:
        return "authority"
    return certificate.role.value if certificate.role is not None else "no role"
