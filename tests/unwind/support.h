/* SPDX-License-Identifier: MIT
 *
 * support.h - what the walker's tests share: start registers, memory, and libgcc's walk to compare with.
 */
#ifndef TESTS_UNWIND_SUPPORT_H
#define TESTS_UNWIND_SUPPORT_H

#include <criterion/criterion.h>
#include <execinfo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mod_alloc.h"
#include "unwind/unwind.h"

#define SUPPORT_FRAMES_MAX 64

/* The registers in our caller just after we return to it, as malloc's slow path hands them on. */
#define START_OF_CALLER()                                                                                    \
    ((moda_unwind_start){                                                                                    \
        .pc = (uintptr_t)__builtin_return_address(0),                                                        \
        .sp = (uintptr_t)__builtin_dwarf_cfa(),                                                              \
        .fp = *(const uintptr_t *)__builtin_frame_address(0),                                                \
    })

/* Keeps the calls before it from becoming jumps, and an object in memory. */
#define KEEP(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")

typedef struct support_result {
    moda_walk plain;
    moda_walk kept;
    uint64_t frames[SUPPORT_FRAMES_MAX];
    uint64_t kept_frames[SUPPORT_FRAMES_MAX];
    void *reference[SUPPORT_FRAMES_MAX + 1];
    uint32_t reference_count;
    int is_same;      /* as libgcc's walk */
    int is_same_kept; /* incremental as plain */
} support_result;

void *support_memory(size_t bytes);
void support_begin(moda_walker_id walker); /* of each test */

/* Walks from our caller, plainly and with this thread's memory, and by libgcc's backtrace(). Uses no
 * allocation of its own, so that it may run in a signal handler. */
void support_walk(support_result *result);

/* The same, and the three must agree and be complete. */
#define EXPECT_COMPLETE(result)                                                                              \
    do {                                                                                                     \
        support_walk(result);                                                                                \
        cr_expect((result)->is_same, "not libgcc's frames: %u of ours, %u of its", (result)->plain.count,    \
                  (result)->reference_count);                                                                \
        cr_expect((result)->is_same_kept, "the incremental walk differs");                                   \
        cr_expect_eq((result)->plain.end, MOD_ALLOC_WALK_COMPLETE, "ended %u", (result)->plain.end);         \
    } while (0)

#endif
