"""Wakes a core 4000 times a second, so that the kernel enforces CPU quotas on time. A program of its own: standard
library only.

The kernel looks at quotas when it schedules, otherwise only at its own tick: with 250 of them a second a share of
1 ms in 5 really runs 3 ms and then stands 12. Arguments: the core, the process whose end is also the ticker's, and the
list of processes of the topmost control group, where real-time scheduling is allowed when it is not in a lower one.
"""

import os
import sys
import time

INTERVAL_SECONDS = 250e-6
_CHECK_EVERY = 2000


def main() -> None:
    core, owner, topmost = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.sched_setaffinity(0, {core})
    try:
        try:
            _run_in_real_time()
        except PermissionError:
            with open(topmost, "w") as processes:
                processes.write(str(os.getpid()))
            _run_in_real_time()
    except OSError as error:
        sys.exit(f"The kernel refuses real-time scheduling ({error.strerror}). Run outside of a container, or with "
                 "--privileged; see also kernel.sched_rt_runtime_us.")  # fmt: skip
    sys.stdout.write("ticking\n")
    sys.stdout.flush()
    sleep = time.sleep
    while os.getppid() == owner:
        for _ in range(_CHECK_EVERY):
            sleep(INTERVAL_SECONDS)


def _run_in_real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


if __name__ == "__main__":
    main()
