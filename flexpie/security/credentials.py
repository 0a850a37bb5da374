"""Who a process is, whom it trusts, and what gRPC makes of that.

Nothing here needs the cryptography package: a process without certificates does not load it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path

import grpc

from flexpie.security.handshakes import NotedHandshake
from flexpie.security.roles import Role

CA_FILE = "ca.crt"
CERTIFICATE_FILE = "tls.crt"
KEY_FILE = "tls.key"
WARN_BEFORE = timedelta(days=30)
"""How long before its end a certificate is worth a word."""


@dataclass(frozen=True)
class TlsFiles:
    """Where a process finds who it is, and whom it trusts; all in PEM form."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> TlsFiles:
        """The files that `flexpie certs issue` puts into a folder."""
        return cls(folder / CA_FILE, folder / CERTIFICATE_FILE, folder / KEY_FILE)


@dataclass(frozen=True)
class Certificate:
    """A certificate as a person looks at it."""

    name: str
    role: Role | None
    """None for an authority, or a certificate that FlexPie did not issue."""
    is_authority: bool
    addresses: tuple[str, ...]
    """Host names and IP addresses that its owner may be reached at."""
    valid_from: datetime
    expires: datetime
    """Both in UTC."""


class Credentials:
    """A certificate with its key, and the authority that others must have theirs from."""

    def __init__(self, ca: bytes, certificate: bytes, key: bytes, description: Certificate, files: TlsFiles) -> None:
        """`ca`, `certificate` and `key` in PEM form, as they are in the `files`."""
        self.description = description
        self._files = files
        self._ca = ca
        self._certificate = certificate
        self._key = key

    @cached_property
    def server(self) -> grpc.ServerCredentials:
        """For a port that takes callers with a certificate only."""
        return grpc.ssl_server_credentials([(self._key, self._certificate)], self._ca, require_client_auth=True)

    @cached_property
    def channel(self) -> grpc.ChannelCredentials:
        """For a channel to a server whose certificate names the address that is called."""
        return grpc.ssl_channel_credentials(self._ca, self._key, self._certificate)

    @cached_property
    def server_context(self) -> ssl.SSLContext:
        """`server` for what gRPC's library does not serve."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.sslobject_class = NotedHandshake
        return context

    @cached_property
    def client_context(self) -> ssl.SSLContext:
        """`channel` for what gRPC's library does not call."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self._ca.decode("ascii"))
        context.load_cert_chain(self._files.certificate, self._files.key)
        context.set_alpn_protocols(["h2"])
        return context


def expiry_warning(expires: datetime, at: datetime) -> str:
    """``expires in 12 days, on 2026-05-01``, or that it has expired; empty while the end is far."""
    left = expires - at
    if left > WARN_BEFORE:
        return ""
    day = expires.strftime("%Y-%m-%d")
    return f"expired on {day}" if left <= timedelta() else f"expires in {left.days} days, on {day}"


def expires_at(credentials: Credentials | None) -> int:
    """When a certificate ends, in seconds since 1970, as messages tell it; 0 without one."""
    return 0 if credentials is None else int(credentials.description.expires.timestamp())


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(timezone.utc)
