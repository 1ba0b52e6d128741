/* SPDX-License-Identifier: MIT
 *
 * growing.h - system calls that can make a file longer.
 *
 * Past the process's limit (RLIMIT_FSIZE, ulimit -f) they fail with EFBIG, and the kernel sends the thread SIGXFSZ, which
 * ends the program. Of ours that must not come: the signal is held back for the time of the call, and taken back.
 * Called by base/sink.c and os/linux.c; like all that they do, in the middle of malloc, on any thread, in handlers. Where
 * there is no limit it costs one system call more.
 */
#ifndef MODA_BASE_GROWING_H
#define MODA_BASE_GROWING_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* As the kernel takes it: signal n is bit n - 1. */
typedef uint64_t moda_signal_set;
#define MODA_SIGNAL_FILE_SIZE ((moda_signal_set)1 << (SIGXFSZ - 1))

static inline bool moda_file_size_is_limited(void) {
    uint64_t limit[2] = {0, 0}; /* the soft one, the hard one */
    return syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, limit) == 0 && limit[0] != UINT64_MAX;
}

/* As syscall(number, fd, b, c, d). */
static inline long moda_call_growing(long number, long fd, long b, long c, long d) {
    const moda_signal_set file_size = MODA_SIGNAL_FILE_SIZE;
    moda_signal_set before = 0;
    moda_signal_set pending = 0;
    if (!moda_file_size_is_limited()
        || syscall(SYS_rt_sigprocmask, SIG_BLOCK, &file_size, &before, sizeof before) != 0) {
        return syscall(number, fd, b, c, d);
    }
    (void)syscall(SYS_rt_sigpending, &pending, sizeof pending);
    const long result = syscall(number, fd, b, c, d);
    const int error = errno;
    if (result == -1 && error == EFBIG && (pending & file_size) == 0) { /* one of the program's own stays */
        const struct timespec at_once = {0};
        (void)syscall(SYS_rt_sigtimedwait, &file_size, NULL, &at_once, sizeof file_size);
    }
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    errno = error;
    return result;
}

#endif
