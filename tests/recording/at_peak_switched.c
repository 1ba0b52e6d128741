/* SPDX-License-Identifier: MIT
 *
 * at_peak_switched.c - a program that has every allocation recorded from some point on: the sites hold what the peak has
 * beyond the blocks from before, also where it is one of those that goes first.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "mod_alloc.h"

enum { OLD = 4, BLOCKS = 100, MORE = 20, SIZE = 1000 };

static void *old[OLD], *blocks[BLOCKS + MORE];

static int add(const mod_alloc_call_site *site, void *sum) {
    *(uint64_t *)sum += site->at_peak_bytes;
    return 0;
}

static void free_all(void **block, int count) {
    for (int i = 0; i < count; i++) {
        free(block[i]);
    }
}

/* 0 as it should be */
static int try_with(size_t old_size) {
    mod_alloc_set_sampling(0);
    mod_alloc_reset();
    for (int i = 0; i < OLD; i++) {
        old[i] = malloc(old_size);
    }
    mod_alloc_stats before, now;
    mod_alloc_snapshot(&before);
    mod_alloc_set_sampling(1);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(SIZE);
    }
    free_all(blocks, BLOCKS / 2); /* a first peak, which sites have kept */
    for (int i = 0; i < BLOCKS / 2; i++) {
        blocks[i] = malloc(SIZE);
    }
    for (int i = BLOCKS; i < BLOCKS + MORE; i++) {
        blocks[i] = malloc(SIZE);
    }
    free_all(old, OLD);
    free_all(blocks, BLOCKS);
    uint64_t at_peak = 0;
    mod_alloc_call_sites(add, &at_peak);
    mod_alloc_snapshot(&now);
    free_all(&blocks[BLOCKS], MORE);
    const uint64_t expected = now.peak_bytes - before.current_bytes;
    printf("%zu: sites held %llu, expected %llu\n", old_size, (unsigned long long)at_peak,
           (unsigned long long)expected);
    return at_peak != expected;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    int failures = 0;
    for (size_t size = 100; size <= 100000000; size *= 10) {
        failures += try_with(size);
    }
    return failures != 0;
}
