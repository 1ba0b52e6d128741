/* SPDX-License-Identifier: MIT
 *
 * crosscheck.c - a second, slow way to count, to hold ours against: mimalloc as it is, exporting malloc itself, with
 * its tracking hooks (mimalloc/track.h, pre-empted through its include guard) counting atomically.
 *
 * Built as libmod_alloc_crosscheck.so for tests, never installed. At exit it writes one line,
 * "ALLOCS FREES", to the file that MOD_ALLOC_CROSSCHECK names. A realloc is one of each there; so for the same
 * program ALLOCS is our alloc_count, and ALLOCS - FREES our live_count. (2.4.1 says nothing of a realloc that stays where
 * it is: there ALLOCS is less by those.)
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_size_t crosscheck_allocs;
static atomic_size_t crosscheck_frees;

static inline void crosscheck_alloc(const void *p) {
    if (p) {
        atomic_fetch_add_explicit(&crosscheck_allocs, 1, memory_order_relaxed);
    }
}

static inline void crosscheck_free(const void *p) {
    if (p) {
        atomic_fetch_add_explicit(&crosscheck_frees, 1, memory_order_relaxed);
    }
}

#define MIMALLOC_TRACK_H
#define MI_TRACK_H
#define MI_TRACK_ENABLED 0
#define MI_TRACK_HEAP_DESTROY 0
#define MI_TRACK_TOOL "crosscheck"
#define mi_track_malloc(p, size, zero) crosscheck_alloc(p)
#define mi_track_malloc_size(p, reqsize, size, zero) crosscheck_alloc(p)
#define mi_track_free(p) crosscheck_free(p)
#define mi_track_free_size(p, size) crosscheck_free(p)
#define mi_track_resize(p, oldsize, newsize) ((void)0)
#define mi_track_align(p, alignedp, offset, size) ((void)0)
#define mi_track_init() ((void)0)
#define mi_track_done() ((void)0)
#define mi_track_mem_defined(p, size) ((void)0)
#define mi_track_mem_undefined(p, size) ((void)0)
#define mi_track_mem_noaccess(p, size) ((void)0)

#include "static.c"

__attribute__((destructor(101))) static void crosscheck_report(void) {
    const char *path = getenv("MOD_ALLOC_CROSSCHECK");
    const int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        dprintf(fd, "%zu %zu\n", atomic_load(&crosscheck_allocs), atomic_load(&crosscheck_frees));
        close(fd);
    }
}
