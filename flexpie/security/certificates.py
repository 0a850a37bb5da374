"""Reads certificates and keys from files, and refuses what could not work, before anything connects."""

from __future__ import annotations

import logging
from collections.abc import Collection
from os import PathLike
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.credentials import Certificate, Credentials, TlsFiles, expiry_warning, now
from flexpie.security.roles import Role, role_of

_log = logging.getLogger(__name__)


def load_credentials(files: TlsFiles | str | PathLike[str], roles: Collection[Role] = ()) -> Credentials:
    """Read and check a certificate, its key and its authority, and warn of what will soon be wrong.

    `files` may be the folder that has them. `roles` are those that may be used for the purpose; none is any. Raises
    ``INVALID_ARGUMENT`` for files that do not fit together, for another role, and for a certificate that is not valid
    now.
    """
    if not isinstance(files, TlsFiles):
        files = TlsFiles.in_folder(Path(files))
    ca, content, key = read_file(files.ca), read_file(files.certificate), read_file(files.key)
    authorities, chain = parse_certificates(ca, files.ca), parse_certificates(content, files.certificate)
    _check_key(chain[0], key, files)
    authority = next((one for one in authorities if _issued(one, chain[-1])), None)
    if authority is None:
        raise _wrong(f"{files.certificate} was not issued by the authority of {files.ca}.")
    description = describe(chain[0])
    _check_role(description, roles, files.certificate)
    _check_validity(description, files.certificate)
    _check_validity(describe(authority), files.ca)
    if files.key.stat().st_mode & 0o077:
        _log.warning("others on this machine can read the private key %s; chmod 600 ends that", files.key)
    return Credentials(ca, content, key, description, files)


def read_certificate(path: Path) -> Certificate:
    """The first certificate of a PEM file; raises ``INVALID_ARGUMENT`` for a file that has none."""
    return describe(parse_certificates(read_file(path), path)[0])


def parse_certificates(content: bytes, path: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file's content, one or more; raises ``INVALID_ARGUMENT``, naming the file."""
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise _wrong(f"{path} holds no certificate in PEM form.") from None


def read_file(path: Path) -> bytes:
    """A file's content; raises ``INVALID_ARGUMENT`` when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}."
        raise _wrong(what, "`flexpie certs issue` makes a folder with everything that --tls-dir needs.") from error


def describe(certificate: x509.Certificate) -> Certificate:
    """What a certificate says."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        others = x509.SubjectAlternativeName([])
    addresses = [*others.get_values_for_type(x509.DNSName), *map(str, others.get_values_for_type(x509.IPAddress))]
    return Certificate(
        name=str(names[0].value) if names else "",
        role=role_of(others.get_values_for_type(x509.UniformResourceIdentifier)),
        is_authority=_is_authority(certificate),
        addresses=tuple(addresses),
        valid_from=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _check_key(certificate: x509.Certificate, content: bytes, files: TlsFiles) -> None:
    try:
        key = load_pem_private_key(content, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):  # what is wrong with it is not repeated: it is a secret
        raise _wrong(f"{files.key} holds no private key in PEM form without a password.") from None
    own, declared = (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for public in (key.public_key(), certificate.public_key())
    )
    if own != declared:
        raise _wrong(f"{files.key} is not the key of {files.certificate}.")


def _check_role(certificate: Certificate, roles: Collection[Role], path: Path) -> None:
    if not roles or certificate.role in roles:
        return
    needed = " or ".join(role.value for role in roles)
    found = "no role" if certificate.role is None else f"the role {certificate.role.value}"
    remedy = f"Issue one with: flexpie certs issue {next(iter(roles)).value}"
    raise _wrong(f"{path} has {found}; this needs the role {needed}.", remedy)


def _check_validity(certificate: Certificate, path: Path) -> None:
    time = now()
    if time < certificate.valid_from:
        begin = f"{certificate.valid_from:%Y-%m-%d %H:%M}"
        raise _wrong(f"{path} is not valid before {begin} UTC.", "Check this machine's clock.")
    warning = expiry_warning(certificate.expires, time)
    if time >= certificate.expires:
        raise _wrong(f"{path} {warning}.", "Issue a new one with `flexpie certs issue`, or check this machine's clock.")
    if warning:
        _log.warning("certificate %s %s; issue a new one with `flexpie certs issue`", path, warning)


def _wrong(message: str, remedy: str = "") -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_ARGUMENT, message, remedy)
