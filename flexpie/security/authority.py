"""A private certificate authority in a folder, and the certificates that it issues.

Keys are ECDSA on the curve P-256: small and quick on small devices.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.certificates import parse_certificates, read_file
from flexpie.security.credentials import CA_FILE, CERTIFICATE_FILE, KEY_FILE, now
from flexpie.security.roles import Role

CA_KEY_FILE = "ca.key"
CA_DAYS = 3650
DAYS = 365
BACKDATED = timedelta(days=1)
"""Certificates begin to be valid so long ago: clocks of small devices may be late."""
LOCAL = ("localhost", "127.0.0.1")
"""How clients on the master's own machine call it."""
SERVERS = frozenset({Role.MASTER, Role.WORKER})
"""Roles that others connect to."""

_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def create_authority(folder: Path, name: str = "FlexPie", days: int = CA_DAYS) -> Path:
    """Make a new authority in a folder: its certificate and its key. Returns the certificate's path.

    Raises ``INVALID_ARGUMENT`` where there is one already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _builder(subject, subject, key, days)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    target = folder / CA_FILE
    _refuse_to_overwrite(target, folder / CA_KEY_FILE)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / CA_KEY_FILE, _pem(key), 0o600)
    _write(target, certificate.public_bytes(Encoding.PEM), 0o644)
    return target


def issue(
    authority: Path, role: Role, name: str, addresses: Sequence[str] = (), days: int = DAYS, folder: Path | None = None
) -> Path:
    """Issue a certificate and put it, its key and the authority's certificate into a folder of their own.

    `authority` is the folder of the authority; `addresses` are host names and IP addresses that the owner is reached
    at; only masters and workers have them, and a master is always reached as `LOCAL` too. Returns the folder,
    ``ROLE-NAME`` below `authority` unless given. Raises ``INVALID_ARGUMENT``: no authority, an existing certificate, a
    name or an address that is none.
    """
    ca_key = _authority_key(authority / CA_KEY_FILE)
    ca_pem = read_file(authority / CA_FILE)
    ca_certificate = parse_certificates(ca_pem, authority / CA_FILE)[0]
    _check(role, name, addresses)
    target = folder or authority / f"{role.value}-{name}"
    _refuse_to_overwrite(*(target / file for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)))
    key = ec.generate_private_key(ec.SECP256R1())
    reached_at = dict.fromkeys([*addresses, *(LOCAL if role is Role.MASTER else ())])
    names = [x509.UniformResourceIdentifier(role.uri), *map(_general_name, reached_at)]
    # Whoever is no server cannot pose as one, whatever addresses stand in the certificate.
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if role in SERVERS else [])]
    expires = min(now() + timedelta(days=days), ca_certificate.not_valid_after_utc)
    certificate = (
        _builder(_subject(name), ca_certificate.subject, key, days, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_authority_identifier(ca_certificate), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(target / KEY_FILE, _pem(key), 0o600)
    _write(target / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM), 0o644)
    _write(target / CA_FILE, ca_pem, 0o644)
    return target


def _check(role: Role, name: str, addresses: Sequence[str]) -> None:
    if not _NAME.fullmatch(name):
        raise _wrong(f"{name[:80]!r} is no name for a certificate.", "Use 1 to 63 letters, digits, dots and hyphens.")
    if role is Role.WORKER and not addresses:
        raise _wrong(
            "A certificate for a worker needs the addresses that others reach it at.",
            "Give them with --address, such as --address 192.168.1.11 or --address pi-1.local.",
        )
    if role not in SERVERS and addresses:
        raise _wrong(f"Nobody connects to a {role.value}, so its certificate has no address.", "Leave --address away.")


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        pass
    if not _HOST.fullmatch(address):
        raise _wrong(f"{address[:80]!r} is no host name or IP address.", "Write it without a port: pi-1.local")
    return x509.DNSName(address)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: int,
    expires: datetime | None = None,
) -> x509.CertificateBuilder:
    begin = now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(expires or begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _authority_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        raise _wrong(f"There is no certificate authority in {path.parent}.", "Make one with: flexpie certs init")
    try:
        key = load_pem_private_key(read_file(path), password=None)
    except (TypeError, ValueError):
        raise _wrong(f"{path} holds no private key that can be used.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _wrong(f"{path} holds a key of another kind than FlexPie makes.")
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _refuse_to_overwrite(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise _wrong(f"{path} exists already.", "Nothing is overwritten: move it away, or choose another folder.")


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file that never had other rights than `mode`."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _wrong(message: str, remedy: str = "") -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_ARGUMENT, message, remedy)
