"""Names of all that a testbed makes; each carries the run's id, so that testbeds run side by side."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container
from dataclasses import dataclass

_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
"""Without vowels, and without what looks alike."""
_RUN = re.compile(rf"[{_LETTERS}]{{4}}")
_NAMESPACE = re.compile(rf"fp-([{_LETTERS}]{{4}})-(?:hub|m|d[0-9]+)")


@dataclass(frozen=True)
class Names:
    """The names of one run. Names of namespaces have at most 15 characters."""

    run: str

    def __post_init__(self) -> None:
        if not _RUN.fullmatch(self.run):
            raise ValueError(f"not the id of a run: {self.run!r}")

    @property
    def hub(self) -> str:
        """Namespace of the bridge."""
        return f"fp-{self.run}-hub"

    @property
    def master(self) -> str:
        """Namespace of the master."""
        return f"fp-{self.run}-m"

    def device(self, index: int) -> str:
        """Namespace of a device."""
        return f"fp-{self.run}-d{index}"

    @property
    def cgroup(self) -> str:
        """Folder in the CPU controller's root."""
        return f"flexpie-{self.run}"

    def owns(self, namespace: str) -> bool:
        """Whether a namespace belongs to this run."""
        match = _NAMESPACE.fullmatch(namespace)
        return match is not None and match[1] == self.run


def new_run(taken: Container[str]) -> str:
    """An id that no other run has."""
    while True:
        run = "".join(secrets.choice(_LETTERS) for _ in range(4))
        if run not in taken:
            return run
