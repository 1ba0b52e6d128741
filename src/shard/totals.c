/* SPDX-License-Identifier: MIT
 *
 * totals.c - the sum over all slots, taken while their owners go on.
 *
 * Anyone may ask at any time, also a signal handler that interrupted the owner of a shard in the middle
 * of a change: so the wait for an even `seq` is bounded. Another thread may have lost its core there: then it is given
 * ours. Where that does not help, there are the sums before the change, which leaves them as they are. No lock, no memory.
 *
 * Shards are read one after the other, so a plain sum is of no one moment: a block that one thread frees and another
 * one allocates again meanwhile could be in it twice. Therefore what was freed is read once more, behind all of what was
 * allocated. Each of the two only grows. So at the moment between the readings at least as much was allocated as the
 * first has, and at most as much freed as the second: the difference is never above what was live at that moment, and is
 * below by what was allocated and freed during the readings alone.
 */
#include "shard/shard.h"

#include "os/os.h"
#include "region/region.h"

enum { TRIES = 64, YIELDS = 500 };

/* How often the sum is taken where much is freed during it. */
enum { SUMS = 4 };

/* Its owner is in the middle of a change for longer: it has lost its core there, or we have interrupted it. */
static void load_before(const moda_shard *shard, moda_counts *counts) {
    const moda_counts *before = &shard->before;
    const uint32_t seq = moda_load_acquire(&shard->seq);
    moda_counts_load(shard, counts);
    if (seq & 1) {
        counts->freed_bytes = moda_load_relaxed(&before->freed_bytes);
        if (moda_load_relaxed(&shard->before_what) == MODA_BEFORE_COUNTDOWN) {
            counts->alloc_count = moda_load_relaxed(&before->alloc_count);
            counts->free_count = moda_load_relaxed(&before->free_count);
            counts->total_bytes = moda_load_relaxed(&before->total_bytes);
            counts->requested_bytes = moda_load_relaxed(&before->requested_bytes);
        }
    }
}

bool moda_totals_of_shard(const moda_shard *shard, moda_counts *counts) {
    for (int i = 0; i < TRIES + YIELDS; i++) {
        const uint32_t before = moda_load_acquire(&shard->seq);
        moda_counts_load(shard, counts);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(before & 1) && moda_load_relaxed(&shard->seq) == before) {
            return true;
        }
        if (i < TRIES) {
            moda_pause();
        } else if (shard != moda_shard_mine()) {
            moda_os_yield();
        } else {
            break; /* we have interrupted it */
        }
    }
    load_before(shard, counts);
    return false;
}

static void load_base(const moda_shard *shard, moda_counts *base) {
    for (int i = 0; i < TRIES; i++) {
        const uint32_t before = moda_load_acquire(&shard->base_seq);
        base->alloc_count = moda_load_relaxed(&shard->base.alloc_count);
        base->free_count = moda_load_relaxed(&shard->base.free_count);
        base->realloc_count = moda_load_relaxed(&shard->base.realloc_count);
        base->total_bytes = moda_load_relaxed(&shard->base.total_bytes);
        base->freed_bytes = moda_load_relaxed(&shard->base.freed_bytes);
        base->requested_bytes = moda_load_relaxed(&shard->base.requested_bytes);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(before & 1) && moda_load_relaxed(&shard->base_seq) == before) {
            return;
        }
        moda_pause();
    }
}

static void add(moda_counts *sum, const moda_counts *counts) {
    sum->alloc_count += counts->alloc_count;
    sum->free_count += counts->free_count;
    sum->realloc_count += counts->realloc_count;
    sum->total_bytes += counts->total_bytes;
    sum->freed_bytes += counts->freed_bytes;
    sum->requested_bytes += counts->requested_bytes;
}

static uint64_t less(uint64_t now, uint64_t base) {
    return now > base ? now - base : 0;
}

/* Never wraps: a base may have been read a moment later than the count that it is taken off. */
static void add_since(moda_counts *sum, const moda_counts *counts, const moda_counts *base) {
    sum->alloc_count += less(counts->alloc_count, base->alloc_count);
    sum->free_count += less(counts->free_count, base->free_count);
    sum->realloc_count += less(counts->realloc_count, base->realloc_count);
    sum->total_bytes += less(counts->total_bytes, base->total_bytes);
    sum->freed_bytes += less(counts->freed_bytes, base->freed_bytes);
    sum->requested_bytes += less(counts->requested_bytes, base->requested_bytes);
}

void moda_totals_since(const moda_shard *shard, const moda_counts *counts, const moda_counts *from,
                       moda_counts *since) {
    moda_counts base;
    load_base(shard, &base);
    *since = (moda_counts){0};
    add_since(since, counts, base.alloc_count > from->alloc_count ? &base : from);
}

/* Slots are made by the block; one that no thread has had yet has counted nothing. */
static bool is_unused(const moda_shard *shard) {
    return moda_load_acquire(&shard->state) == MODA_SLOT_FREE && moda_load_relaxed(&shard->incarnation) == 0;
}

static bool add_shard(moda_totals *totals, const moda_shard *shard) {
    if (is_unused(shard)) {
        return true;
    }
    moda_counts base, counts;
    load_base(shard, &base);
    const bool is_whole = moda_totals_of_shard(shard, &counts);
    add(&totals->counts, &counts);
    add_since(&totals->since, &counts, &base);
    return is_whole;
}

static bool add_freed(moda_totals *totals, const moda_shard *shard) {
    if (is_unused(shard)) {
        return true;
    }
    moda_counts counts;
    const bool is_whole = moda_totals_of_shard(shard, &counts);
    totals->counts.freed_bytes += counts.freed_bytes;
    totals->counts.free_count += counts.free_count;
    return is_whole;
}

/* False if one of the shards could not be read whole. */
MODA_INLINE bool add_all(moda_totals *totals, bool add_one(moda_totals *, const moda_shard *)) {
    const moda_region_header *header = moda_region();
    bool are_whole = true;
    uint32_t seen = 0;
    for (moda_ref ref = moda_load_acquire(&header->shard_blocks); ref;) {
        const moda_shard_block *block = moda_region_at(ref);
        for (uint32_t i = 0; i < block->count; i++) {
            are_whole &= add_one(totals, &block->shard[i]);
        }
        seen += block->count;
        ref = moda_load_acquire(&block->next);
    }
    /* Those that found no room there lie elsewhere, and any that were made later, when there was room again, behind them. */
    const uint32_t count = moda_load_relaxed(&header->slot_count);
    for (uint32_t i = 0; seen < count && i < count; i++) {
        const moda_shard *shard = moda_registry_slot(i);
        if (shard && !moda_region_has(shard)) {
            are_whole &= add_one(totals, shard);
        }
    }
    return are_whole;
}

/* Once. Gives what was freed meanwhile. */
static uint64_t read_once(moda_totals *totals) {
    *totals = (moda_totals){.peak_clock = moda_load_acquire(&moda_peak_clock)};
    moda_totals freed = {.balance = 0};
    totals->is_level = add_all(totals, add_shard);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    totals->is_level &= add_all(&freed, add_freed);
    totals->balance = (int64_t)(totals->counts.total_bytes - freed.counts.freed_bytes);
    totals->live =
        moda_counts_live(&totals->counts) - (int64_t)(freed.counts.free_count - totals->counts.free_count);
    return freed.counts.freed_bytes - totals->counts.freed_bytes;
}

/* Of several sums the highest: none is too high. */
void moda_totals_read(moda_totals *totals) {
    *totals = (moda_totals){0};
    if (!moda_region()) {
        return;
    }
    uint64_t freed_meanwhile = read_once(totals);
    for (int i = 1; i < SUMS && freed_meanwhile > MODA_LEVEL_BYTES && totals->is_level; i++) {
        moda_totals again;
        freed_meanwhile = read_once(&again);
        if (again.is_level && again.balance > totals->balance) {
            *totals = again;
        }
    }
}
