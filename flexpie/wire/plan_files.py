"""Reads plan files for commands and the master; what is in them, `flexpie.planner.plan_file` knows."""

from __future__ import annotations

from pathlib import Path

from flexpie.core.errors import ErrorCode, FlexPieError

MOST_BYTES = 16 << 20
"""Of a plan file; a wrong file (a model) usually is no text, or larger. It travels as one message."""

_REMEDY = "`flexpie plan --output FILE` writes a plan file."


def read_plan_text(path: Path) -> str:
    """The text of a plan file.

    Raises OSError for a file that cannot be read, FlexPieError(INVALID_PLAN) for one that is no text or too large.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise FlexPieError(ErrorCode.INVALID_PLAN, f"{path}: no plan file has more than {MOST_BYTES} bytes.", _REMEDY)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FlexPieError(ErrorCode.INVALID_PLAN, f"{path}: a plan file is a text in UTF-8.", _REMEDY) from None
