"""Everything that reads input, fed with bad input: in processes of their own, which must not crash, hang or grow."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG
from tests.fuzz.targets import GROUPS, LONG_FACTOR, TARGETS

pytestmark = pytest.mark.timeout(3600 if LONG else 300)


@pytest.mark.parametrize("group", GROUPS)
def test_bad_input_is_taken_or_refused_with_a_typed_error(group: str, tmp_path: Path) -> None:
    progress, seed = tmp_path / "progress", random.randrange(2**32) if LONG else 0
    words = [str(progress), str(seed), str(LONG_FACTOR if LONG else 1), *GROUPS[group]]
    command = [sys.executable, "-m", "tests.fuzz.running", *words]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    last = progress.read_text() if progress.exists() else "nothing"
    again = f"python -m tests.fuzz.running {progress} {seed} 1 {last}"
    assert done.returncode == 0, f"ended with {done.returncode} at {last}; try `{again}`\n{done.stdout}\n{done.stderr}"
    for name in GROUPS[group]:
        (told,) = re.findall(f"^{name}: (.*)$", done.stdout, re.MULTILINE)
        assert told.count(",") >= 1, f"{name}: all cases end alike ({told}): they do not reach far"


def test_the_same_seed_makes_the_same_cases_and_they_differ() -> None:
    for target in TARGETS.values():
        first, again = ([target.make(random.Random(f"7:{number}")) for number in range(10)] for _ in range(2))
        assert first == again
        assert len(set(first)) >= 8
