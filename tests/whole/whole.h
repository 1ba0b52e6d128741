/* SPDX-License-Identifier: MIT
 *
 * whole.h - what the small programs of this folder share: reading the counters, saying what was expected.
 *
 * Each program allocates a sequence that is known in advance, reads the counters by the public API and
 * compares. The same source is run preloaded (then the API is weak and found at run time), linked with
 * libmod_alloc.so, linked with libmod_alloc.a, and fully static. Nothing here allocates, so a check never
 * changes what it checks. Exit status: 0 all as expected, 1 not (each difference is a line on stderr),
 * 77 could not be tried. All of it is compiled with -fno-builtin, so that the compiler leaves out no call.
 */
#ifndef WHOLE_H
#define WHOLE_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mod_alloc.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_snapshot
#pragma weak mod_alloc_thread_snapshot
#pragma weak mod_alloc_reset
#pragma weak mod_alloc_profiler_start
#pragma weak mod_alloc_profiler_stop
#pragma weak mod_alloc_thread_profiler_start
#pragma weak mod_alloc_thread_profiler_stop
#pragma weak mod_alloc_is_active
#pragma weak mod_alloc_set_sampling
#pragma weak mod_alloc_sampling
#pragma weak mod_alloc_call_sites
#pragma weak mod_alloc_call_sites_get
#pragma weak mod_alloc_call_sites_free
#pragma weak mod_alloc_version
#define WHOLE_HAS(function) ((function) != NULL)
#else
#define WHOLE_HAS(function) true
#endif

#define WHOLE_SKIP 77

#ifdef WHOLE_EMULATED /* by qemu-user, whose own memory is the process's, too */
#define WHOLE_IS_EMULATED true
#else
#define WHOLE_IS_EMULATED false
#endif

static int whole_failures;

__attribute__((format(printf, 4, 5), unused)) static void whole_fail(const char *file, int line,
                                                                     const char *claim, const char *format,
                                                                     ...) {
    char text[1024];
    const int head = snprintf(text, sizeof text, "%s:%d: not so: %s: ", file, line, claim);
    size_t used = head > 0 ? (size_t)head : 0;
    if (used < sizeof text) {
        va_list arguments;
        va_start(arguments, format);
        const int body = vsnprintf(text + used, sizeof text - used, format, arguments);
        va_end(arguments);
        used += body > 0 ? (size_t)body : 0;
    }
    if (used > sizeof text - 2) {
        used = sizeof text - 2;
    }
    text[used++] = '\n';
    if (__atomic_add_fetch(&whole_failures, 1, __ATOMIC_RELAXED) <= 40) {
        const ssize_t written = write(STDERR_FILENO, text, used);
        (void)written;
    }
}

/* A claim, and a printf format that says what was found. */
#define CHECK(claim, ...)                                                                                    \
    do {                                                                                                     \
        if (!(claim)) {                                                                                      \
            whole_fail(__FILE__, __LINE__, #claim, __VA_ARGS__);                                             \
        }                                                                                                    \
    } while (0)

#define CHECK_EQ(found, expected, name)                                                                      \
    do {                                                                                                     \
        const int64_t found_ = (int64_t)(found);                                                             \
        const int64_t expected_ = (int64_t)(expected);                                                       \
        if (found_ != expected_) {                                                                           \
            whole_fail(__FILE__, __LINE__, #found " == " #expected,                                          \
                       "%s: found %" PRId64 ", expected %" PRId64, (name), found_, expected_);               \
        }                                                                                                    \
    } while (0)

/* What is needed to go on; without it the program ends here. */
#define NEED(claim, ...)                                                                                     \
    do {                                                                                                     \
        if (!(claim)) {                                                                                      \
            whole_fail(__FILE__, __LINE__, #claim, __VA_ARGS__);                                             \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

__attribute__((unused)) static bool whole_is_active(void) {
    return WHOLE_HAS(mod_alloc_is_active) && mod_alloc_is_active() == 1;
}

/* First line of main: the figures that follow must be mod-alloc's. */
__attribute__((unused)) static void whole_begin(void) {
    NEED(WHOLE_HAS(mod_alloc_is_active), "mod-alloc is not in this process");
    NEED(mod_alloc_is_active() == 1, "mod_alloc_is_active() gives %d", mod_alloc_is_active());
}

__attribute__((unused)) static int whole_end(void) {
    return whole_failures == 0 ? 0 : 1;
}

/* All that comes through a pipe, up to size - 1 bytes, and a 0 behind it. How many. */
__attribute__((unused)) static size_t whole_read(int fd, char *text, size_t size) {
    size_t used = 0;
    ssize_t got;
    while ((got = read(fd, text + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    text[used] = 0;
    return used;
}

__attribute__((unused)) static mod_alloc_stats whole_now(void) {
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    return stats;
}

/* The change between two snapshots; signed, since current and live may fall. */
typedef struct whole_change {
    int64_t alloc_count, free_count, total_bytes, current_bytes, live_count, requested_bytes;
} whole_change;

__attribute__((unused)) static whole_change whole_changed(const mod_alloc_stats *before,
                                                          const mod_alloc_stats *after) {
    return (whole_change){
        .alloc_count = (int64_t)(after->alloc_count - before->alloc_count),
        .free_count = (int64_t)(after->free_count - before->free_count),
        .total_bytes = (int64_t)(after->total_bytes - before->total_bytes),
        .current_bytes = (int64_t)(after->current_bytes - before->current_bytes),
        .live_count = (int64_t)(after->live_count - before->live_count),
        .requested_bytes = (int64_t)(after->requested_bytes - before->requested_bytes),
    };
}

__attribute__((unused)) static void whole_compare(const char *file, int line, const char *what,
                                                  whole_change found, whole_change expected) {
    const struct {
        const char *name;
        int64_t found, expected;
    } row[] = {
        {"alloc_count", found.alloc_count, expected.alloc_count},
        {"free_count", found.free_count, expected.free_count},
        {"total_bytes", found.total_bytes, expected.total_bytes},
        {"current_bytes", found.current_bytes, expected.current_bytes},
        {"live_count", found.live_count, expected.live_count},
        {"requested_bytes", found.requested_bytes, expected.requested_bytes},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (row[i].found != row[i].expected) {
            whole_fail(file, line, what, "%s changed by %" PRId64 ", expected %" PRId64, row[i].name,
                       row[i].found, row[i].expected);
        }
    }
}

/* The counters' change since `before` is this, field by field; fields not named are 0. */
#define CHECK_CHANGE(what, before, ...)                                                                      \
    do {                                                                                                     \
        const mod_alloc_stats after_ = whole_now();                                                          \
        whole_compare(__FILE__, __LINE__, (what), whole_changed(&(before), &after_),                         \
                      (whole_change){__VA_ARGS__});                                                          \
    } while (0)

__attribute__((unused)) static double whole_seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Bytes of anonymous memory of this process that are resident: counted page by page. Residence as a whole would not do:
 * the kernel maps pages of a library around the one that was asked for, as it has them at hand, and statm leaves out what
 * each core has not yet added, 128 KiB and more. No stdio. */
__attribute__((unused)) static size_t whole_resident_bytes(void) {
    char text[2048] = {0};
    const int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    const char *const line = got > 0 ? strstr(text, "\nAnonymous:") : NULL;
    NEED(line != NULL, "/proc/self/smaps_rollup does not say what is anonymous");
    return strtoul(line + strlen("\nAnonymous:"), NULL, 10) * 1024;
}

/* A small generator of random numbers: the same stream on each machine. */
__attribute__((unused)) static uint64_t whole_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

#endif
