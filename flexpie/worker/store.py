"""The worker's store: one flat folder of blobs, each named by its SHA-256.

ONNX subgraphs and weights lie beside each other, so that a subgraph finds its weights by name. Blobs survive
restarts. When the folder grows over its bound, or the disk is full, the blobs that were used longest ago go, but none
that a deployment uses. Not safe for use from several threads at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.hashing import file_digest
from flexpie.core.program import BlobRef

DEFAULT_STORE_BYTES = 4 * 1024**3

_NAME = re.compile("[0-9a-f]{64}")


class Store:
    """Content-addressed blobs in a folder."""

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_STORE_BYTES) -> None:
        """Open the folder, which may hold blobs of an earlier run."""
        self.folder = folder
        self.limit_bytes = limit_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._sizes: dict[str, int] = {}  # used longest ago first
        self._unverified: set[str] = set()
        self._pins: dict[str, frozenset[str]] = {}
        found = []
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name):
                found.append((path.stat().st_mtime, path.name, path.stat().st_size))
            else:
                path.unlink()  # an upload that was cut off
        for _, name, size in sorted(found):
            self._sizes[name] = size
            self._unverified.add(name)

    @property
    def used_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(self._sizes.values())

    def missing(self, blobs: Iterable[BlobRef]) -> list[BlobRef]:
        """Which of these the store lacks, once each, in their order. Those that it has count as used now.

        A blob of an earlier run is read once, and is missing when its content does not match its name.
        """
        return [blob for blob in dict.fromkeys(blobs) if not self._has(blob)]

    def take_offer(self, blobs: Iterable[BlobRef]) -> list[BlobRef]:
        """Which blobs of a package the store lacks; raises ``TOO_LARGE`` when it can never have all of them at once."""
        offered = list(dict.fromkeys(blobs))
        self._check_room(offered, f"a package of {sum(blob.nbytes for blob in offered)} bytes")
        return self.missing(offered)

    def writer(self, blob: BlobRef) -> BlobWriter:
        """Begin to write a blob; raises ``TOO_LARGE`` when there can be no room for it."""
        self._make_room(blob.nbytes, blob.nbytes)
        with _explained():
            return BlobWriter(self, blob)

    def pin(self, owner: str, blobs: Iterable[BlobRef]) -> None:
        """Keep these blobs, those that come later included, until `owner` is unpinned."""
        self._pins[owner] = frozenset(blob.sha256 for blob in blobs)

    def unpin(self, owner: str) -> None:
        """Let go what `owner` keeps."""
        self._pins.pop(owner, None)

    def _has(self, blob: BlobRef) -> bool:
        name = blob.sha256
        if self._sizes.get(name) != blob.nbytes:
            return False
        try:
            if name in self._unverified:
                if file_digest(self.folder / name) != name:
                    self._remove(name)
                    return False
                self._unverified.remove(name)
            self._touch(name)
        except FileNotFoundError:  # somebody made room by hand
            self._remove(name)
            return False
        return True

    def _touch(self, name: str) -> None:
        self._sizes[name] = self._sizes.pop(name)
        os.utime(self.folder / name)

    def _make_room(self, nbytes: int, on_disk: int = 0) -> None:
        """Remove what nobody uses until there is room for a blob, `on_disk` bytes of which are still to be written."""
        pinned = self._check_room([BlobRef("", nbytes)], f"{nbytes} bytes")
        for name in list(self._sizes):
            within_limit = self.used_bytes + nbytes <= self.limit_bytes
            if within_limit and on_disk <= shutil.disk_usage(self.folder).free:
                return
            if name not in pinned:
                self._remove(name)

    def _check_room(self, blobs: Iterable[BlobRef], what: str) -> frozenset[str]:
        """Raise ``TOO_LARGE`` unless these fit beside what deployments use; returns the names of that."""
        pinned: frozenset[str] = frozenset().union(*self._pins.values())
        kept = sum(self._sizes[name] for name in pinned if name in self._sizes)
        wanted = sum(blob.nbytes for blob in blobs if blob.sha256 not in pinned)
        if kept + wanted > self.limit_bytes:
            raise FlexPieError(
                ErrorCode.TOO_LARGE,
                f"The store has no room for {what}: its limit is {self.limit_bytes} bytes, and deployments use {kept} "
                "of them.",
                "Unload a model, or start the worker with a larger --store-bytes.",
            )
        return pinned

    def _remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        del self._sizes[name]
        self._unverified.discard(name)

    def _add(self, blob: BlobRef, path: Path) -> None:
        self._make_room(blob.nbytes)  # others may have come meanwhile
        os.replace(path, self.folder / blob.sha256)
        self._sizes.pop(blob.sha256, None)
        self._sizes[blob.sha256] = blob.nbytes
        self._unverified.discard(blob.sha256)


class BlobWriter:
    """A blob on its way into the store: nothing is visible until it is complete and correct."""

    def __init__(self, store: Store, blob: BlobRef) -> None:
        self._store = store
        self._blob = blob
        self._hash = hashlib.sha256()
        self._written = 0
        handle, path = tempfile.mkstemp(prefix="incoming-", dir=store.folder)
        self._path = Path(path)
        self._file = os.fdopen(handle, "wb")

    def write(self, data: bytes) -> None:
        """Append a chunk; raises ``CORRUPT_PACKAGE`` when there is more than was declared."""
        self._written += len(data)
        if self._written > self._blob.nbytes:
            raise self._corrupt(f"has more than the declared {self._blob.nbytes} bytes")
        with _explained():
            self._file.write(data)
        self._hash.update(data)

    def commit(self) -> None:
        """Put the blob into the store; raises ``CORRUPT_PACKAGE`` unless size and hash are right."""
        try:
            with _explained():
                self._file.close()
            if self._written != self._blob.nbytes:
                raise self._corrupt(f"has {self._written} bytes instead of {self._blob.nbytes}")
            if self._hash.hexdigest() != self._blob.sha256:
                raise self._corrupt(f"has the hash {self._hash.hexdigest()}")
            self._store._add(self._blob, self._path)
        finally:
            self._path.unlink(missing_ok=True)

    def abort(self) -> None:
        """Forget what was written; does nothing after `commit`."""
        with contextlib.suppress(OSError):  # what was not written yet does not fit
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _corrupt(self, what: str) -> FlexPieError:
        return FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"Blob {self._blob.sha256} {what}.", "Push the package again.")


@contextmanager
def _explained() -> Iterator[None]:
    """Say what it means when the disk does not take a blob."""
    try:
        yield
    except OSError as error:
        raise FlexPieError(
            ErrorCode.TOO_LARGE,
            f"The worker cannot keep a package: {error.strerror or error}.",
            "Make room on the worker's disk, or start it with another --state-dir.",
        ) from error
