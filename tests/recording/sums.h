/* SPDX-License-Identifier: MIT
 *
 * sums.h - what programs that record at the limit share: sums over all call sites, and claims about them.
 */
#ifndef RECORDING_SUMS_H
#define RECORDING_SUMS_H

#include "mod_alloc.h"

#include <stdio.h>

typedef struct sums {
    uint64_t allocs, frees, bytes;
    uint64_t overflow_allocs;
} sums;

static int add_site(const mod_alloc_call_site *site, void *context) {
    sums *s = context;
    s->allocs += site->alloc_count;
    s->frees += site->free_count;
    s->bytes += site->alloc_bytes;
    if (site->id == 0) {
        s->overflow_allocs = site->alloc_count;
    }
    return 0;
}

static int failures;

static void expect(int is_so, const char *what, uint64_t got) {
    if (!is_so) {
        printf("not so: %s (got %llu)\n", what, (unsigned long long)got);
        failures++;
    }
}

#endif
