"""What gRPC says of refused connections reaches the log once, and all else that is written to stderr passes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flexpie.cli.handshake_log import reason_of

_SCRIPT = """
import logging, os, sys
from flexpie.cli.handshake_log import handshakes_logged
grpc_line = "I1126 03:26:56.5 11 ssl_transport_security.cc:2563] "
failed = "Handshake failed with error SSL_ERROR_SSL: error:1:SSL routines:OPENSSL_internal:"
with handshakes_logged():
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    for reason in ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "WRONG_VERSION_NUMBER: x"):
        for _ in range(3):
            os.write(2, (grpc_line + failed + reason + "\\n").encode())
    os.write(2, (grpc_line + "something else\\n").encode())
    os.write(2, b"a library has something to say\\n")
    print("Python, too", file=sys.stderr)
os.write(2, b"and afterwards\\n")
print("as before", file=sys.stderr)
"""


def test_handshakes_are_translated_once_and_the_rest_passes() -> None:
    # Commands that other tests run in this process choose what gRPC logs, which is left as it is where it was chosen.
    chosen_by_nobody = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=True, env=chosen_by_nobody
    )
    assert sorted(run.stderr.splitlines()) == sorted(
        [
            "refused connection: TLS handshake failed, its certificate has expired",
            "refused connection: TLS handshake failed, it does not use TLS",
            "a library has something to say",
            "Python, too",
            "and afterwards",
            "as before",
        ]
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE: x", "it has no certificate"),
        ("SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE", "it does not accept this end's certificate"),
        ("SSL routines:OPENSSL_internal:SOMETHING_NEW: detail", "SOMETHING_NEW: detail"),
    ],
)
def test_reasons_are_in_plain_words(line: str, reason: str) -> None:
    assert reason_of(line) == reason
