"""How fast a device computes: multiplies small matrices for a while. A program of its own: numpy only.

Argument: seconds. Prints "ready", waits for SIGUSR1, works, and prints one line of JSON: the multiplications done, the
seconds they took by the clock and on the processor, and the spread (p90 / p50) of the times of groups of them.
"""

import json
import os
import signal
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np

_SIDE = 128
_GROUP = 20
"""Multiplications between two looks at the clock, about a millisecond."""


def main() -> None:
    seconds = float(sys.argv[1])
    matrix = np.full((_SIDE, _SIDE), 1 / _SIDE, dtype=np.float32)
    result = matrix @ matrix
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    _say("ready")
    signal.sigwait({signal.SIGUSR1})
    used = time.process_time()
    marks = [time.perf_counter()]
    while marks[-1] - marks[0] < seconds:
        for _ in range(_GROUP):
            np.matmul(matrix, matrix, out=result)
        marks.append(time.perf_counter())
    times = np.diff(marks)
    found = {
        "multiplications": len(times) * _GROUP,
        "clock_seconds": marks[-1] - marks[0],
        "cpu_seconds": time.process_time() - used,
        "spread": float(np.quantile(times, 0.9) / np.quantile(times, 0.5)),
    }
    _say(json.dumps(found))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
