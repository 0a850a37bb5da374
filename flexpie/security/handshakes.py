"""Why connections end in their TLS handshake, in words, whichever library's text tells it."""

from __future__ import annotations

import logging
import ssl
from functools import cache

from flexpie.security.refusal_log import RefusalLog

_REASONS = {
    "certificate has expired": "its certificate has expired",
    "certificate is not yet valid": "its certificate is not valid yet",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no certificate",
    "WRONG_VERSION_NUMBER": "it does not use TLS",
    "HTTP_REQUEST": "it does not use TLS",
    "BAD_SIGNATURE": "its certificate is from another authority",
    "signature failure": "its certificate is from another authority",
    "unable to get local issuer certificate": "its certificate is from another authority",
    "self signed certificate": "its certificate is from another authority",
    "self-signed certificate": "its certificate is from another authority",
    "unsupported certificate purpose": "its certificate is for a caller, not for a server",
    "unsuitable certificate purpose": "its certificate is for a caller, not for a server",
    "_ALERT_": "it does not accept this end's certificate",
}

_log = logging.getLogger(__name__)


def reason_in(text: str) -> str | None:
    """What a library says of a handshake that failed, in words; None for what is not known here."""
    return next((reason for sign, reason in _REASONS.items() if sign in text), None)


@cache
def refusals() -> RefusalLog:
    """Of this process."""
    return RefusalLog(_log)


class NotedHandshake(ssl.SSLObject):
    """The server's end of a connection, which logs why its handshake failed: asyncio itself tells nobody."""

    def do_handshake(self) -> None:
        """See `ssl.SSLObject`."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            reason = reason_in(str(error)) or str(error)
            refusals().note(("handshake", reason), f"connection: TLS handshake failed, {reason}")
            raise
