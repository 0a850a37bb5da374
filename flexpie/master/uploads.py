"""Model files on their way in: written as they come, and hashed meanwhile, so that no model is held in memory."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from flexpie.core.errors import ErrorCode, FlexPieError

MAX_UPLOAD_BYTES = 8 * 1024**3
"""Default bound of a model, all its files together."""
MAX_FILES = 4096
INCOMING = "incoming-"
"""How the folder of an unfinished upload begins."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A disk, or what its user may have of it, is full."""


class Upload:
    """The files of one model as they come in: the model's own file first, then its external data."""

    def __init__(self, parent: Path, total_bytes: int, max_bytes: int = MAX_UPLOAD_BYTES) -> None:
        """The files go into a new folder in `parent`.

        Raises ``TOO_LARGE`` for a model over the limit, or over what the disk has left.
        """
        if total_bytes > max_bytes:
            raise _too_large(
                f"The model has {total_bytes} bytes; the limit is {max_bytes} bytes.",
                "Load a smaller model, or start the master with a higher --max-model-bytes.",
            )
        with _explained():
            self.folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=parent))
        self.files: list[Path] = []
        self.hashes: list[str] = []
        """SHA-256 (hex) of each file, once it is complete."""
        self.received_bytes = 0
        self.total_bytes = total_bytes
        self._open: BinaryIO | None = None
        self._hash = hashlib.sha256()
        free = shutil.disk_usage(self.folder).free
        if total_bytes > free:
            self.remove()
            raise _too_large(
                f"The model has {total_bytes} bytes; {free} bytes are free in the master's state folder.",
                "Make room there, or start the master with another --state-dir.",
            )

    @property
    def model_path(self) -> Path:
        """The model's own file."""
        return self.files[0]

    def write(self, file_name: str, data: bytes) -> None:
        """Take in a chunk; `file_name` begins a new file.

        Raises ``INVALID_ARGUMENT`` for a name that leads out of the folder, and ``TOO_LARGE`` for more bytes than
        were announced, or than the disk has left by now.
        """
        if file_name:
            with _explained():
                self._begin(file_name)
        if self._open is None:
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "The first chunk of an upload has no file name.")
        self.received_bytes += len(data)
        if self.received_bytes > self.total_bytes:
            raise _too_large(
                f"More bytes came than the {self.total_bytes} that were announced.", "Send the model again."
            )
        with _explained():
            self._open.write(data)
        self._hash.update(data)

    def finish(self) -> None:
        """Every chunk is there; raises ``INVALID_ARGUMENT`` when some are missing."""
        with _explained():
            self._close()
        if not self.files or self.received_bytes != self.total_bytes:
            raise FlexPieError(
                ErrorCode.INVALID_ARGUMENT,
                f"The upload ended after {self.received_bytes} of {self.total_bytes} bytes.",
                "Send the model again.",
            )

    @property
    def names(self) -> list[str]:
        """Of the files, relative to the folder."""
        return [path.relative_to(self.folder).as_posix() for path in self.files]

    def remove(self) -> None:
        """Delete every file; does nothing for an upload that was moved away."""
        if self._open is not None:
            with contextlib.suppress(OSError):  # what was not written yet does not fit
                self._open.close()
            self._open = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, file_name: str) -> None:
        self._close()
        path = PurePosixPath(file_name)
        inside = not path.is_absolute() and ".." not in path.parts and path.parts and "\\" not in file_name
        if not inside or "\0" in file_name or len(file_name) > 255 or len(self.files) >= MAX_FILES:
            raise FlexPieError(
                ErrorCode.INVALID_ARGUMENT,
                f"{file_name[:80]!r} is no name for a file of a model.",
                "Files must lie in the folder of the model, or below it.",
            )
        target = self.folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._open = target.open("xb")
        except OSError as error:
            if error.errno in _FULL:
                raise
            reason = error.strerror or str(error)
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"File {file_name!r}: {reason}.") from error
        self.files.append(target)

    def _close(self) -> None:
        """A file is complete, and survives a loss of power."""
        if self._open is not None:
            self._open.flush()
            os.fsync(self._open.fileno())
            self._open.close()
            self._open = None
            self.hashes.append(self._hash.hexdigest())
            self._hash = hashlib.sha256()


@contextmanager
def _explained() -> Iterator[None]:
    """Say what it means when the disk does not take a file."""
    try:
        yield
    except OSError as error:
        raise FlexPieError(
            ErrorCode.TOO_LARGE if error.errno in _FULL else ErrorCode.INVALID_ARGUMENT,
            f"The master cannot keep the model: {error.strerror or error}.",
            "Make room in the master's state folder, or start the master with another --state-dir.",
        ) from error


def _too_large(message: str, remedy: str) -> FlexPieError:
    return FlexPieError(ErrorCode.TOO_LARGE, message, remedy)
