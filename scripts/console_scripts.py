"""The commands that FlexPie installs, as a user meets them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_TIMEOUT_SECONDS = 60


def console_scripts() -> frozenset[str]:
    """Names of the commands that pyproject.toml declares."""
    entry_points = metadata.distribution("flexpie").entry_points
    return frozenset(entry_points.select(group="console_scripts").names)


@functools.cache
def run_help(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What `command words... --help` does in a terminal of 80 columns.

    With `--help` a command does nothing but check that it knows its subcommand and options, so this tells whether
    a documented call can work. A command that does not exist ends with code 127, as in a shell.
    """
    path = Path(sys.executable).parent / command
    if not path.exists():
        return subprocess.CompletedProcess([command], 127, "", f"{command}: not installed")
    help_words = words if words[-1:] == ("--help",) else (*words, "--help")
    return subprocess.run(
        [str(path), *help_words],
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )


def complaint(run: subprocess.CompletedProcess[str]) -> str | None:
    """Why a command refused; None when it did not."""
    if run.returncode == 0:
        return None
    lines = (run.stderr or run.stdout).strip().splitlines()
    return lines[-1] if lines else f"ended with code {run.returncode}"
