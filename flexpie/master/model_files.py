"""The models that the master was given, each in a folder named by what its files hold."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flexpie.master.uploads import INCOMING, MAX_UPLOAD_BYTES, Upload
from flexpie.wire.external_data import external_files


class ModelFiles:
    """Folders of models, kept for as long as somebody uses them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._uses: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def clean(self, wanted: Iterable[str]) -> None:
        """Remove everything but the folders of this content: uploads that were cut off, models that were unloaded."""
        kept = set(wanted)
        for path in self.folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def upload(self, total_bytes: int, max_bytes: int = MAX_UPLOAD_BYTES) -> Upload:
        """Begin to take in a model; see `Upload`."""
        return Upload(self.folder, total_bytes, max_bytes)

    @property
    def uploads(self) -> int:
        """How many are on their way in."""
        return sum(1 for _ in self.folder.glob(f"{INCOMING}*"))

    def path(self, content: str, file: str) -> Path:
        """Where a model's own file lies."""
        return self.folder / content / file

    def take_in(self, upload: Upload) -> tuple[str, Path]:
        """Make a finished upload a model of ours, for one user; returns the hash of its content, and its path.

        The same files are kept once.
        """
        content = content_hash(list(zip(upload.names, upload.hashes, strict=True)))
        target = self.folder / content
        if target.exists():
            upload.remove()
        else:
            upload.folder.replace(target)
        self.use(content)
        return content, target / upload.names[0]

    def use(self, content: str) -> None:
        """Somebody uses a model."""
        self._uses[content] += 1

    def release(self, content: str) -> None:
        """Somebody needs a model no longer; with its last user it is removed."""
        self._uses[content] -= 1
        if self._uses[content] <= 0:
            del self._uses[content]
            shutil.rmtree(self.folder / content, ignore_errors=True)


def content_of(path: Path, hash_file: Callable[[Path], str]) -> str:
    """The hash of a model that lies anywhere, with its external data; the same that an upload of it would have.

    Raises OSError for files that cannot be read.
    """
    files = [path.name, *external_files(path)]
    folder = path.resolve().parent
    hashes = [hash_file(path), *(hash_file(folder / name) for name in files[1:])]
    return content_hash(list(zip(files, hashes, strict=True)))


def content_hash(files: Sequence[tuple[str, str]]) -> str:
    """SHA-256 (hex) of a model from the names and hashes of its files, its own file first."""
    return hashlib.sha256(repr([files[0], *sorted(files[1:])]).encode()).hexdigest()
