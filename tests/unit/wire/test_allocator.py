"""What threads free goes back to the system; tried in processes, since what an allocator keeps cannot be undone."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import sys, threading
import psutil
from flexpie.wire.allocator import KEPT_BYTES, bound_kept_memory, return_free_memory

MIB = 2**20

def resident():
    return psutil.Process().memory_info().rss

def in_threads(work, count=4):
    "One after another, while those before live on, as in a pool."
    done = threading.Event()
    def run():
        work()
        ended.set()
        done.wait()
    threads = []
    for _ in range(count):
        ended = threading.Event()
        threads.append(threading.Thread(target=run))
        threads[-1].start()
        ended.wait()
    return threads, done

def plan():
    "A large block, and one that is larger by far: its end makes the allocator keep such blocks."
    for nbytes in (31 * MIB, 24 * MIB):
        block = bytearray(nbytes)
        del block

def fragments():
    "Pieces, of which a few stay."
    kept.append([bytes(2000) for _ in range(8000)][::100])

kept = []
if "bound" in sys.argv:
    bound_kept_memory()
before = resident()
threads, done = in_threads(fragments if "fragments" in sys.argv else plan)
if "return" in sys.argv:
    return_free_memory()
print((resident() - before) // MIB)
done.set()
for thread in threads:
    thread.join()
"""


def _grown(*arguments: str) -> int:
    """MiB that the process has more after its threads freed nearly all that they used."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep little")


@glibc
def test_threads_that_planned_keep_little() -> None:
    assert _grown() > 40
    assert _grown("bound") < 20


@glibc
def test_free_pages_between_pieces_that_are_used_go_back() -> None:
    assert _grown("fragments") > 30
    assert _grown("fragments", "return") < 15
