/* SPDX-License-Identifier: MIT
 *
 * unwind_walk.c - what does one walk of a stack cost, by each walker, at 8, 16 and 32 frames?
 *
 * Prints ns per walk and ns per frame, the median of interleaved rounds, for
 *   tables        by unwind tables, nothing kept between walks; code without frame pointers
 *   incremental   the same with the thread's last walk, the same stack again and again
 *   inner 4 new   the same where the innermost 4 frames differ from the last walk's (calls included)
 *   fp            by frame pointers, on a chain of functions that keep them (gcc only)
 *   backtrace     glibc's backtrace()
 * and, for 32 frames, a walk whose rows must all be computed anew ("cold").
 *
 * Usage: unwind_walk [ROUNDS]. Timings of a shared machine: compare rows of one run, not runs.
 */
#define _GNU_SOURCE
#include <execinfo.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "mod_alloc.h"
#include "unwind/row_cache.h"
#include "unwind/unwind.h"

enum { CHAIN = 32, WALKS = 2000, ROUNDS_MAX = 1000, FRAMES_MAX = 64 };

#if defined(__has_attribute)
#if __has_attribute(optimize)
#define KEEPS_FRAME_POINTER __attribute__((optimize("no-omit-frame-pointer")))
#endif
#endif
#ifndef KEEPS_FRAME_POINTER
#define KEEPS_FRAME_POINTER
#define HAS_FRAME_POINTER_CHAIN 0
#else
#define HAS_FRAME_POINTER_CHAIN 1
#endif

typedef enum walker { TABLES, INCREMENTAL, INNER_NEW, COLD, FP, BACKTRACE, WALKERS } walker;
static const char *const walker_names[] = {"tables", "incremental", "inner 4 new", "cold", "fp", "backtrace"};

typedef struct measurement {
    walker walker;
    uint32_t frames; /* of the last walk */
    uint32_t end;
    double ns; /* per walk */
} measurement;

static moda_unwind_thread *thread_memory;
static uint64_t frames[FRAMES_MAX];
static void *addresses[FRAMES_MAX];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *map_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Registers of our caller, as malloc's slow path hands them on. */
#define START_HERE()                                                                                         \
    (moda_unwind_start) {                                                                                    \
        .pc = ((const uintptr_t *)__builtin_frame_address(0))[1],                                            \
        .sp = (uintptr_t)__builtin_frame_address(0) + 16,                                                    \
        .fp = ((const uintptr_t *)__builtin_frame_address(0))[0],                                            \
    }

static void walk_once(measurement *m, const moda_unwind_start *start, moda_unwind_thread *thread) {
    const moda_walk walk = moda_unwind(start, thread, frames);
    m->frames = walk.count;
    m->end = walk.end;
}

__attribute__((noinline)) static void measure(measurement *m) {
    const moda_unwind_start start = START_HERE();
    moda_unwind_thread *thread = m->walker == INCREMENTAL ? thread_memory : NULL;
    moda_unwind_initialize(m->walker == FP ? MODA_UNWIND_FP : MODA_UNWIND_TABLES, FRAMES_MAX);
    const int walks = m->walker == BACKTRACE || m->walker == COLD ? WALKS / 50 : WALKS;
    for (int i = 0; i < 3; i++) {
        walk_once(m, &start, thread);
    }
    const uint64_t began = now_ns();
    for (int i = 0; i < walks; i++) {
        if (m->walker == BACKTRACE) {
            m->frames = (uint32_t)backtrace(addresses, FRAMES_MAX) - 1; /* not `measure` */
        } else {
            if (m->walker == COLD) {
                moda_unwind_forget();
            }
            walk_once(m, &start, thread);
        }
    }
    m->ns = (double)(now_ns() - began) / walks;
}

/* A leaf for the INNER_NEW loop: one walk a call. */
__attribute__((noinline)) static void walk_here(measurement *m) {
    const moda_unwind_start start = START_HERE();
    walk_once(m, &start, thread_memory);
}

/* Holds a local array in the frame, and the call in front of it from becoming a jump. */
#define KEEP_FRAME(array) __asm__ volatile("" : : "r"(array) : "memory")

#define INNER(name, next, bytes)                                                                             \
    __attribute__((noinline)) static void name(measurement *m) {                                             \
        char pad[bytes];                                                                                     \
        KEEP_FRAME(pad);                                                                                     \
        next(m);                                                                                             \
        KEEP_FRAME(pad);                                                                                     \
    }
INNER(inner_a3, walk_here, 40)
INNER(inner_a2, inner_a3, 72)
INNER(inner_a1, inner_a2, 24)
INNER(inner_a0, inner_a1, 56)
INNER(inner_b3, walk_here, 24)
INNER(inner_b2, inner_b3, 88)
INNER(inner_b1, inner_b2, 40)
INNER(inner_b0, inner_b1, 40)

__attribute__((noinline)) static void alternate(measurement *m) {
    moda_unwind_initialize(MODA_UNWIND_TABLES, FRAMES_MAX);
    const uint64_t began = now_ns();
    for (int i = 0; i < WALKS / 2; i++) {
        inner_a0(m);
        inner_b0(m);
    }
    m->ns = (double)(now_ns() - began) / WALKS;
}

/* Chains of distinct functions, each with a frame of its own size: link(d) calls link(d - 1) ... link(0). */
typedef void link_function(measurement *m);
static link_function *leaf = measure;
static unsigned chain_top;

#define LINK(prefix, attribute, number, next)                                                                \
    __attribute__((noinline)) attribute static void prefix##number(measurement *m) {                         \
        char pad[8 + 8 * (number * 7 % 13)];                                                                 \
        KEEP_FRAME(pad);                                                                                     \
        next(m);                                                                                             \
        KEEP_FRAME(pad);                                                                                     \
    }
#define CHAIN_OF(prefix, attribute)                                                                          \
    __attribute__((noinline)) attribute static void prefix##end(measurement *m) {                            \
        char pad[8];                                                                                         \
        KEEP_FRAME(pad);                                                                                     \
        leaf(m);                                                                                             \
        KEEP_FRAME(pad);                                                                                     \
    }                                                                                                        \
    LINK(prefix, attribute, 0, prefix##end)                                                                  \
    LINK(prefix, attribute, 1, prefix##0)                                                                    \
    LINK(prefix, attribute, 2, prefix##1)                                                                    \
    LINK(prefix, attribute, 3, prefix##2)                                                                    \
    LINK(prefix, attribute, 4, prefix##3)                                                                    \
    LINK(prefix, attribute, 5, prefix##4)                                                                    \
    LINK(prefix, attribute, 6, prefix##5)                                                                    \
    LINK(prefix, attribute, 7, prefix##6)                                                                    \
    LINK(prefix, attribute, 8, prefix##7)                                                                    \
    LINK(prefix, attribute, 9, prefix##8)                                                                    \
    LINK(prefix, attribute, 10, prefix##9)                                                                   \
    LINK(prefix, attribute, 11, prefix##10)                                                                  \
    LINK(prefix, attribute, 12, prefix##11)                                                                  \
    LINK(prefix, attribute, 13, prefix##12)                                                                  \
    LINK(prefix, attribute, 14, prefix##13)                                                                  \
    LINK(prefix, attribute, 15, prefix##14)                                                                  \
    LINK(prefix, attribute, 16, prefix##15)                                                                  \
    LINK(prefix, attribute, 17, prefix##16)                                                                  \
    LINK(prefix, attribute, 18, prefix##17)                                                                  \
    LINK(prefix, attribute, 19, prefix##18)                                                                  \
    LINK(prefix, attribute, 20, prefix##19)                                                                  \
    LINK(prefix, attribute, 21, prefix##20)                                                                  \
    LINK(prefix, attribute, 22, prefix##21)                                                                  \
    LINK(prefix, attribute, 23, prefix##22)                                                                  \
    LINK(prefix, attribute, 24, prefix##23)                                                                  \
    LINK(prefix, attribute, 25, prefix##24)                                                                  \
    LINK(prefix, attribute, 26, prefix##25)                                                                  \
    static link_function *const prefix[] = {                                                                 \
        prefix##end, prefix##0,  prefix##1,  prefix##2,  prefix##3,  prefix##4,  prefix##5,                  \
        prefix##6,   prefix##7,  prefix##8,  prefix##9,  prefix##10, prefix##11, prefix##12,                 \
        prefix##13,  prefix##14, prefix##15, prefix##16, prefix##17, prefix##18, prefix##19,                 \
        prefix##20,  prefix##21, prefix##22, prefix##23, prefix##24, prefix##25, prefix##26,                 \
    };

CHAIN_OF(without_fp_, )
CHAIN_OF(with_fp_, KEEPS_FRAME_POINTER)

__attribute__((noinline)) static void run(measurement *m) {
    leaf = m->walker == INNER_NEW ? alternate : measure;
    const unsigned top = m->walker == INNER_NEW ? chain_top - 5 : chain_top;
    (m->walker == FP ? with_fp_ : without_fp_)[top](m);
}

static int compare_ns(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double first_walk_us(void) {
    const moda_unwind_start start = START_HERE();
    const uint64_t began = now_ns();
    moda_unwind(&start, NULL, frames);
    return (double)(now_ns() - began) / 1000;
}

static bool is_measured(walker w, unsigned depth) {
    return (w != FP || HAS_FRAME_POINTER_CHAIN) && (w != INNER_NEW || depth >= 16);
}

static void print_depth(unsigned depth, int rounds) {
    static double ns[WALKERS][ROUNDS_MAX];
    measurement m[WALKERS];
    chain_top = depth - 5; /* main, print_depth and three of libc and start code are there already */
    for (int round = 0; round < rounds; round++) {
        for (unsigned w = 0; w < WALKERS; w++) {
            m[w] = (measurement){.walker = (walker)w};
            if (is_measured((walker)w, depth)) {
                run(&m[w]);
            }
            ns[w][round] = m[w].ns;
        }
    }
    for (unsigned w = 0; w < WALKERS; w++) {
        if (!is_measured((walker)w, depth)) {
            continue;
        }
        qsort(ns[w], (size_t)rounds, sizeof ns[w][0], compare_ns);
        const double median = ns[w][rounds / 2];
        printf("%-12s %7u %10.1f %10.2f %8s\n", walker_names[w], m[w].frames, median, median / m[w].frames,
               m[w].end == MOD_ALLOC_WALK_COMPLETE ? "yes" : "NO");
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 21;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        rounds = 21;
    }
    moda_unwind_set_memory(map_memory);
    moda_unwind_initialize(MODA_UNWIND_TABLES, FRAMES_MAX);
    thread_memory = map_memory(moda_unwind_thread_size(FRAMES_MAX));
    if (thread_memory == NULL) {
        return 1;
    }
    printf("first walk of the process: %.1f us\n", first_walk_us());
    printf("%-12s %7s %10s %10s %8s\n", "walker", "frames", "ns/walk", "ns/frame", "complete");
    static const unsigned depths[] = {8, 16, 32};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        print_depth(depths[i], rounds);
    }
    return 0;
}
