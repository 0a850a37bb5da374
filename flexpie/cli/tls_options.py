"""``--tls-dir`` and its parts: which certificate a command or a daemon shows to others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flexpie.security.credentials import TlsFiles
from flexpie.security.roles import Role

if TYPE_CHECKING:
    from flexpie.security.credentials import Credentials

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PARTS = ("ca", "cert", "key")


def tls_options(command: _Command) -> _Command:
    """Adds the options; the command gets `TlsFiles`, or None, as ``tls``."""
    folder = click.option(
        "--tls-dir", "tls", type=click.Path(file_okay=False, path_type=Path), envvar="FLEXPIE_TLS_DIR",
        show_envvar=True, callback=_chosen,
        help="Folder with ca.crt, tls.crt and tls.key, as `flexpie certs issue` makes it: encrypt connections.",
    )  # fmt: skip
    for part, what in zip(_PARTS, ("certificate of the authority", "certificate", "private key"), strict=True):
        command = click.option(
            f"--tls-{part}", type=click.Path(dir_okay=False, path_type=Path), envvar=f"FLEXPIE_TLS_{part.upper()}",
            hidden=True, expose_value=False, is_eager=True, callback=_remember, help=f"The {what} alone, in PEM form.",
        )(command)  # fmt: skip
    return folder(command)


def load_tls(files: TlsFiles | None, roles: Collection[Role] = ()) -> Credentials | None:
    """Credentials from the options' files, where there are any; raises ``INVALID_ARGUMENT``."""
    if files is None:
        return None
    from flexpie.security.certificates import load_credentials

    return load_credentials(files, roles)


def _remember(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.meta[f"flexpie.{parameter.name}"] = value


def _chosen(context: click.Context, parameter: click.Parameter, folder: Path | None) -> TlsFiles | None:
    given: dict[str, Any] = {part: context.meta.get(f"flexpie.tls_{part}") for part in _PARTS}
    if folder is None and not any(given.values()):
        return None
    if folder is not None:
        files = TlsFiles.in_folder(folder)
        return TlsFiles(given["ca"] or files.ca, given["cert"] or files.certificate, given["key"] or files.key)
    if not all(given.values()):
        raise click.UsageError("give --tls-dir, or all of --tls-ca, --tls-cert and --tls-key")
    return TlsFiles(*given.values())
