/* SPDX-License-Identifier: MIT
 *
 * orphan.c - counts what belongs to no thread's shard: allocations and frees of threads past their end.
 *
 * Slot 0, written by any thread, atomically; rare. Its balance is made known at once, so it needs no mark.
 */
#include "shard/shard.h"

#include "region/region.h"

static void publish(int64_t growth) {
    moda_add_relaxed(&moda_shard_orphan->published, growth);
    moda_add_relaxed(&moda_region()->published_sum, growth);
}

void moda_shard_orphan_malloc(size_t block_size, size_t requested) {
    moda_add_relaxed(&moda_shard_orphan->budget, (int64_t)block_size);
    moda_add_relaxed(&moda_shard_orphan->alloc_base, 1);
    moda_add_relaxed(&moda_shard_orphan->requested_base, requested);
    publish((int64_t)block_size);
}

void moda_shard_orphan_free(size_t block_size) {
    moda_add_relaxed(&moda_shard_orphan->free_budget, (int64_t)block_size);
    moda_add_relaxed(&moda_shard_orphan->free_base, 1);
    publish(-(int64_t)block_size);
}

void moda_shard_orphan_realloc(int64_t growth, size_t requested) {
    if (growth > 0) {
        moda_add_relaxed(&moda_shard_orphan->budget, growth);
    } else {
        moda_add_relaxed(&moda_shard_orphan->free_budget, -growth);
    }
    moda_add_relaxed(&moda_shard_orphan->alloc_base, 1);
    moda_add_relaxed(&moda_shard_orphan->realloc_count, 1);
    moda_add_relaxed(&moda_shard_orphan->requested_base, requested);
    publish(growth);
}
