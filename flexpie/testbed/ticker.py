"""Wakes a core 4000 times a second, so that the kernel enforces CPU quotas on time. A program of its own: standard
library only.

The kernel looks at quotas when it schedules, otherwise only at its own tick: with 250 of them a second a share of
1 ms in 5 really runs 3 ms and then stands 12. Arguments: the core, and the process whose end is also the ticker's.
"""

import os
import sys
import time

INTERVAL_SECONDS = 250e-6
_CHECK_EVERY = 2000


def main() -> None:
    core, owner = int(sys.argv[1]), int(sys.argv[2])
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    sys.stdout.write("ticking\n")
    sys.stdout.flush()
    sleep = time.sleep
    while os.getppid() == owner:
        for _ in range(_CHECK_EVERY):
            sleep(INTERVAL_SECONDS)


if __name__ == "__main__":
    main()
