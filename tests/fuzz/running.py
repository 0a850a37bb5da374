"""Feeds targets, in a process of its own, so that a crash is seen and not suffered.

python -m tests.fuzz.running PROGRESS SEED FACTOR TARGET...      all cases of these targets
python -m tests.fuzz.running PROGRESS SEED FACTOR TARGET:NUMBER  one case, with its traceback
"""

from __future__ import annotations

import gc
import logging
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from flexpie.core.errors import ErrorCode, FlexPieError
from tests.fuzz.targets import TARGETS

HANG_SECONDS = 20
"""A case takes milliseconds; a busy machine may make seconds of them."""
WARM_UP = 0.3
"""Share of a target's cases after which its memory must not grow any more."""
MOST_GROWTH_BYTES = 24 << 20
_SHOWN_BYTES = 600


class Finding(Exception):
    """A case that was neither taken nor refused with a typed error."""


def case(name: str, number: int, seed: int) -> bytes:
    """The same bytes whenever it is asked for."""
    return TARGETS[name].make(random.Random(f"{seed}:{name}:{number}"))


def feed(name: str, content: bytes) -> str:
    """Let a target read a case; returns the code that it was refused with, or "taken"."""
    try:
        with _no_hang():
            TARGETS[name].feed(content)
    except FlexPieError as error:
        if error.code is ErrorCode.INTERNAL:
            raise Finding(f"refused with INTERNAL: {error}") from error
        return str(error.code.value)
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {str(error)[:500]}") from error
    return "taken"


def run(name: str, seed: int, count: int, progress: Path) -> Counter[str]:
    """Feed a target with so many cases; returns how often each outcome came. Raises `Finding`."""
    outcomes: Counter[str] = Counter()
    before = 0
    for number in range(count):
        progress.write_text(f"{name}:{number}")
        content = case(name, number, seed)
        try:
            outcomes[feed(name, content)] += 1
        except Finding as found:
            raise Finding(f"{name}:{number} with seed {seed}: {found}\n{content[:_SHOWN_BYTES]!r}") from found
        if number == round(count * WARM_UP):
            before = _memory()
    grown = _memory() - before
    if grown > MOST_GROWTH_BYTES:
        raise Finding(f"{name}: memory grew by {grown / 2**20:.0f} MiB in {count * (1 - WARM_UP):.0f} cases")
    return outcomes


@contextmanager
def _no_hang() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {HANG_SECONDS} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def main() -> None:
    """Prints one line for each target, and ends with code 1 at the first finding."""
    progress, seed, factor = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.disable(logging.WARNING)
    for word in sys.argv[4:]:
        name, _, number = word.partition(":")
        if number:
            content = case(name, int(number), seed)
            sys.stdout.write(f"{content!r}\n{feed(name, content)}\n")
            continue
        try:
            outcomes = run(name, seed, TARGETS[name].cases * factor, progress)
        except Finding as found:
            sys.exit(str(found))
        told = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
        sys.stdout.write(f"{name}: {told}\n")


if __name__ == "__main__":
    main()
