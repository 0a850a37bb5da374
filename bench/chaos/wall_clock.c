/* A wall clock that jumps, for one process: preloaded (LD_PRELOAD), it adds the seconds that stand in the file
   FLEXPIE_CHAOS_CLOCK/PID to what the process is told of the time of day. Clocks that only go forward stay as they are:
   no device's monotonic clock jumps. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset_seconds;

__attribute__((constructor)) static void open_clock(void)
{
    const char *folder = getenv("FLEXPIE_CHAOS_CLOCK");
    char path[4096];
    if (!folder || snprintf(path, sizeof path, "%s/%d", folder, (int)getpid()) >= (int)sizeof path)
        return;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return;
    if (ftruncate(file, sizeof *offset_seconds) == 0) {
        void *map = mmap(NULL, sizeof *offset_seconds, PROT_READ, MAP_SHARED, file, 0);
        if (map != MAP_FAILED)
            offset_seconds = map;
    }
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && offset_seconds && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset_seconds;
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
