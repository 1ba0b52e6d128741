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
    moda_add_relaxed(&moda_shard_orphan->countdown, -(int64_t)block_size);
    moda_add_relaxed(&moda_shard_orphan->alloc_count, 1);
    moda_add_relaxed(&moda_shard_orphan->requested_bytes, requested);
    publish((int64_t)block_size);
}

void moda_shard_orphan_free(size_t block_size) {
    moda_add_relaxed(&moda_shard_orphan->freed_mark, -(int64_t)block_size);
    moda_add_relaxed(&moda_shard_orphan->free_count, 1);
    publish(-(int64_t)block_size);
}

void moda_shard_orphan_realloc(int64_t growth, size_t requested) {
    if (growth > 0) {
        moda_add_relaxed(&moda_shard_orphan->countdown, -growth);
    } else {
        moda_add_relaxed(&moda_shard_orphan->freed_mark, growth);
    }
    moda_add_relaxed(&moda_shard_orphan->alloc_count, 1);
    moda_add_relaxed(&moda_shard_orphan->realloc_count, 1);
    moda_add_relaxed(&moda_shard_orphan->requested_bytes, requested);
    publish(growth);
}
