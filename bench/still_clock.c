/* SPDX-License-Identifier: MIT
 *
 * still_clock.c - preloaded in front of a malloc: a clock that goes on by a microsecond each time it is asked.
 *
 * mimalloc gives memory back after some milliseconds, and so looks at the clock; under valgrind on a busy machine
 * more time passes for the same code, and instruction counts differ from run to run. With this clock they are the
 * same each time. Threads may get the same time: nothing that is counted has two.
 */
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static long microseconds = 1000000;
    (void)clock;
    microseconds++;
    now->tv_sec = microseconds / 1000000;
    now->tv_nsec = microseconds % 1000000 * 1000;
    return 0;
}
