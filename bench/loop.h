/* SPDX-License-Identifier: MIT
 *
 * loop.h - what the loops share: random numbers, arguments, work that cannot be optimized away.
 *
 * Each loop is a program that does a fixed amount of work, given by its arguments, and knows nothing of the
 * malloc under it: run.py starts it under one malloc and another, in pairs, and compares their times.
 * The same arguments give the same sequence of calls, on every machine.
 */
#ifndef MOD_ALLOC_BENCH_LOOP_H
#define MOD_ALLOC_BENCH_LOOP_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Whatever is stored here was used. */
extern void *volatile loop_sink;
#define LOOP_SINK void *volatile loop_sink

/* xorshift64*: a few cycles, good enough to pick slots and sizes. */
static inline uint64_t loop_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

static inline size_t loop_below(uint64_t *state, size_t bound) {
    return (size_t)(((loop_random(state) >> 32) * bound) >> 32);
}

/* A size as programs ask for them: small ones far more often; 16 .. 512, in steps that differ. */
static inline size_t loop_size(uint64_t *state) {
    const uint64_t r = loop_random(state);
    return (size_t)(16 + ((r & 31) << ((r >> 8) & 3)) + ((r >> 16) & 7));
}

/* The index-th argument as a number. */
static inline size_t loop_argument(int argc, char **argv, int index, size_t otherwise) {
    return argc > index ? (size_t)strtoull(argv[index], NULL, 10) : otherwise;
}

#endif
