/* SPDX-License-Identifier: MIT
 *
 * A region with shards and a table of sites, as process start makes them, and stacks to fill it with.
 */
#ifndef MODA_TESTS_UNIT_SITE_ROOMS_H
#define MODA_TESTS_UNIT_SITE_ROOMS_H

#include "region/region.h"
#include "shard/shard.h"
#include "site/deltas.h"
#include "site/site_table.h"

#include <stdlib.h>

#define FRAMES_MAX 64u

static inline bool make_rooms(uint64_t memory_max, uint64_t buckets, const char *path) {
    const moda_region_options options = {
        .path = path,
        .memory_max = memory_max,
        .frames_max = FRAMES_MAX,
        .short_lived_ns = 1000000,
        .mimalloc_version = "test",
    };
    return moda_region_create(&options) && moda_registry_initialize() && moda_site_table_create(buckets);
}

/* splitmix64 */
static inline uint64_t next_number(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The n-th stack: its length and its frames follow from n alone. Addresses that no object has. */
static inline uint32_t make_stack(uint64_t n, uint64_t frames[FRAMES_MAX]) {
    uint64_t state = n;
    const uint32_t count = 1 + (uint32_t)(next_number(&state) % 24);
    for (uint32_t i = 0; i < count; i++) {
        frames[i] = UINT64_C(0x100000000000) + next_number(&state) % 100000 * 16;
    }
    frames[0] = UINT64_C(0x200000000000) + n * 16; /* no two are the same */
    return count;
}

static inline moda_site *intern_stack(moda_shard *shard, moda_site_thread *thread, uint64_t n) {
    uint64_t frames[FRAMES_MAX];
    const moda_walk walk = {.count = make_stack(n, frames)};
    return moda_site_intern(shard, thread, &walk, frames);
}

static inline moda_site_thread *make_site_thread(void) {
    return moda_region_alloc(moda_site_thread_size(FRAMES_MAX));
}

#endif
