"""Names by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

_READ_BYTES = 1024 * 1024


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file; raises OSError. `hashlib.file_digest` is not in Python 3.10."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
