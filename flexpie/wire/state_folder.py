"""The folder in which a daemon keeps what survives a restart: its identity, and what it was given."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from flexpie.core.errors import ErrorCode, FlexPieError

_IDENTITY = re.compile("[0-9a-f]{32}")


def default_folder(daemon: str, port: int, file: Path | None = None) -> Path | None:
    """Where a daemon ("worker", "master") keeps its state that listens on this port, and was started with this file;
    None for port 0: such a daemon is there for a moment only."""
    if port == 0:
        return None
    name = f"{daemon}-{port}"
    if file is not None:
        name += f"-{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "flexpie" / name


class StateFolder:
    """A state folder while a daemon uses it; no second one can."""

    def __init__(self, path: Path | None, daemon: str = "worker") -> None:
        """`path` is made when it is missing; None stands for a new folder that is gone afterwards."""
        self._given = path
        self._daemon = daemon
        self._stack = ExitStack()
        self.path = Path()
        self.identity = ""
        """Of the daemon; stays the same for as long as the folder is there."""

    def __enter__(self) -> StateFolder:
        """Raises ``INVALID_ARGUMENT`` when the folder cannot be used."""
        with self._stack as stack:
            if self._given is None:
                self.path = Path(tempfile.mkdtemp(prefix=f"flexpie-{self._daemon}-"))
                stack.callback(shutil.rmtree, self.path, ignore_errors=True)
            else:
                self.path = self._given
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock(stack)
                self.identity = self._identity()
            except OSError as error:
                what = f"The state folder {self.path} cannot be used: {error.strerror or error}."
                raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, "Give another one with --state-dir.") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def _lock(self, stack: ExitStack) -> None:
        file = stack.enter_context((self.path / "lock").open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"Another {self._daemon} uses the state folder {self.path}."
            raise FlexPieError(
                ErrorCode.INVALID_ARGUMENT, what, f"Give each {self._daemon} its own --state-dir."
            ) from error

    def _identity(self) -> str:
        path = self.path / "identity"
        if path.exists() and _IDENTITY.fullmatch(known := path.read_text().strip()):
            return known
        fresh = uuid.uuid4().hex
        incoming = path.with_suffix(".incoming")
        incoming.write_text(fresh + "\n")
        incoming.replace(path)
        return fresh
