"""Connections that end in their TLS handshake, in a daemon's log.

gRPC refuses them before any of our code runs, and tells only its own log, which goes straight to the process's standard
error. So that is read here, translated where it tells of a handshake, and passed on where it is not gRPC's at all.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from flexpie.security.handshakes import reason_in
from flexpie.security.refusal_log import RefusalLog

_VERBOSITY = "GRPC_VERBOSITY"
_STANDARD_ERROR = 2
_GRPC_LINE = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+:\d+\] ")
_HANDSHAKE = b"Handshake failed with error "

_log = logging.getLogger(__name__)


@contextmanager
def handshakes_logged() -> Iterator[None]:
    """Log each kind of handshake that fails, once a minute, while the block runs.

    Does nothing where the user chose what gRPC logs. To be entered before gRPC is imported.
    """
    if _VERBOSITY in os.environ:
        yield
        return
    os.environ[_VERBOSITY] = "INFO"
    sys.stderr.flush()
    kept = os.dup(_STANDARD_ERROR)
    readable, writable = os.pipe()
    os.dup2(writable, _STANDARD_ERROR)
    os.close(writable)
    python_errors = sys.stderr
    sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    reader = threading.Thread(target=_translate, args=(os.fdopen(readable, "rb"), kept), name="gRPC log", daemon=True)
    reader.start()
    try:
        yield
    finally:
        os.dup2(kept, _STANDARD_ERROR)  # the pipe has no other end now, and the reader stops
        reader.join()
        os.close(kept)
        sys.stderr.flush()
        sys.stderr = python_errors


def reason_of(line: str) -> str:
    """What a line of gRPC's about a failed handshake means; its own words where that is not known."""
    return reason_in(line) or line.rpartition("OPENSSL_internal:")[2].strip()[:200]


def _translate(lines: IO[bytes], passed_on: int) -> None:
    refusals = RefusalLog(_log)
    with lines:
        for line in lines:
            if not _GRPC_LINE.match(line):
                os.write(passed_on, line)
            elif _HANDSHAKE in line:
                reason = reason_of(line.decode("utf-8", "replace"))
                refusals.note(reason, f"connection: TLS handshake failed, {reason}")
