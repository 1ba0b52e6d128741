/* SPDX-License-Identifier: MIT
 *
 * read_threads.c - the shards: what each thread counted, and the process's totals and peak.
 *
 * read.c calls, before the sites are read: these lead to threads by their slots, and need to know when the peak was.
 *
 * Laws
 *   1. totals are the sums over all shards, of threads that have ended, too.
 *   2. the peak is never below what is live now, nor below what a lone thread has reached and not yet published.
 */
#include "report/read.h"

#include <stdlib.h>
#include <string.h>

/* What is live: allocated minus freed. */
typedef struct balance {
    int64_t bytes, count;
} balance;

static void read_shard(moda_reader *r, moda_shard *shard, moda_profile_thread *thread) {
    moda_read_settle(r, shard, sizeof *shard, &shard->seq);
    if (shard->seq & 1)
        moda_shard_put_back(shard);
    moda_read_settle(r, &shard->base, sizeof shard->base, &shard->base_seq);
    const uint64_t total = (uint64_t)shard->budget - (uint64_t)moda_alloc_word_bytes(shard->alloc_word);
    const uint64_t freed = (uint64_t)shard->free_budget - (uint64_t)moda_free_word_bytes(shard->free_word);
    const uint64_t allocations = shard->alloc_base + moda_alloc_word_blocks(shard->alloc_word);
    const uint64_t frees = shard->free_base + moda_free_word_blocks(shard->free_word);
    const uint64_t requested = shard->requested_base + moda_alloc_word_requested(shard->alloc_word);
    *thread = (moda_profile_thread){
        .index = shard->index,
        .tid = shard->tid,
        .incarnation = shard->incarnation,
        .is_alive = shard->state == MODA_SLOT_TAKEN,
        .is_orphan = shard->state == MODA_SLOT_ORPHAN,
        .stats =
            {
                .alloc_count = allocations - shard->base.alloc_count,
                .free_count = frees - shard->base.free_count,
                .total_bytes = total - shard->base.total_bytes,
                .requested_bytes = requested - shard->base.requested_bytes,
                .current_bytes = total - freed,
                .live_count = allocations - frees - shard->realloc_count,
            },
        .freed_bytes = freed - shard->base.freed_bytes,
        .balance_bytes = moda_read_minus(total, freed),
        .balance_count = moda_read_minus(allocations, frees + shard->realloc_count),
        .samples = shard->samples,
        .dropped = shard->dropped,
    };
    if ((r->header.flags & MODA_REGION_FORKED) != 0) { /* a child's bases are its counts at the fork */
        const moda_counts *const base = &shard->base;
        thread->inherited_bytes = moda_read_minus(base->total_bytes, base->freed_bytes);
        thread->inherited_count = moda_read_minus(base->alloc_count, base->free_count + base->realloc_count);
    }
    memcpy(thread->name, shard->name, sizeof thread->name - 1);
    memcpy(thread->walks, shard->walks, sizeof thread->walks);
}

/* A lone thread's highest balance lies in its shard until it publishes it: see layout.h at solo_epoch. */
static void raise_lone_peak(const moda_reader *r, const moda_shard *shard, balance others, balance *peak) {
    if (r->header.threads_now != 1 || shard->state != MODA_SLOT_TAKEN
        || shard->mark_epoch != r->header.solo_epoch)
        return;
    const int64_t mark = moda_read_minus((uint64_t)shard->budget, (uint64_t)shard->free_budget);
    const bool is_pending = shard->pending.bytes > mark;
    const int64_t candidate = moda_read_plus(others.bytes, is_pending ? shard->pending.bytes : mark);
    if (candidate <= peak->bytes)
        return;
    peak->bytes = candidate;
    peak->count = moda_read_plus(others.count, is_pending ? shard->pending.count : shard->mark_live);
}

static bool walk_shards(moda_reader *r, size_t *slots) {
    uint64_t blocks = 0;
    *slots = 0;
    uint64_t holder = offsetof(moda_region_header, shard_blocks);
    for (moda_ref ref = r->header.shard_blocks; ref != 0 && !moda_read_is_newer(r, ref);) {
        const moda_shard_block *const block =
            moda_read_record(r, holder, ref, sizeof *block, "block of shards");
        if (block == NULL)
            return false;
        holder = moda_read_offset_of(r, block);
        if (block->count > (r->size - holder - sizeof *block) / sizeof(moda_shard))
            return moda_read_bad(r, holder + offsetof(moda_shard_block, count), "number of shards",
                                 block->count, "as many as fit before the end");
        if (++blocks > r->size / sizeof *block)
            return moda_read_bad(r, holder, "length of the list of shard blocks", blocks, "no cycle");
        *slots += block->count;
        if (*slots > r->size / sizeof(moda_shard))
            return moda_read_bad(r, holder, "number of shards in all", *slots,
                                 "as many as fit; shards overlap");
        ref = block->next;
    }
    return true;
}

static bool is_used(const moda_shard *shard) {
    return shard->state != MODA_SLOT_FREE || shard->incarnation != 0 || shard->alloc_base != 0
           || shard->free_base != 0;
}

static int by_slot(const void *a, const void *b) {
    const uint32_t x = ((const moda_profile_thread *)a)->index, y = ((const moda_profile_thread *)b)->index;
    return (x > y) - (x < y);
}

uint32_t moda_read_thread_of_slot(const moda_profile *profile, uint32_t slot) {
    const moda_profile_thread key = {.index = slot};
    const moda_profile_thread *const found =
        profile->thread_count == 0
            ? NULL
            : bsearch(&key, profile->threads, profile->thread_count, sizeof key, by_slot);
    return found != NULL ? (uint32_t)(found - profile->threads) : UINT32_MAX;
}

static void add_to_process(moda_reader *r, const moda_shard *shard, const moda_profile_thread *thread) {
    moda_profile_process *const p = r->process;
    p->totals.alloc_count += thread->stats.alloc_count;
    p->totals.free_count += thread->stats.free_count;
    p->totals.total_bytes += thread->stats.total_bytes;
    p->totals.requested_bytes += thread->stats.requested_bytes;
    p->samples += thread->samples;
    p->dropped += thread->dropped;
    for (int k = 0; k < 6; k++)
        p->walks[k] += thread->walks[k];
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++)
        r->profile->size_classes[k] = moda_count_sum(r->profile->size_classes[k], shard->size_samples[k]);
}

/* The shards in use become threads, in the same order; `now` is what they have live together. */
static size_t read_shards(moda_reader *r, moda_profile_thread *threads, balance *now) {
    size_t count = 0;
    for (moda_ref ref = r->header.shard_blocks; ref != 0 && !moda_read_is_newer(r, ref);) {
        moda_shard_block *const block = moda_read_again(r, ref);
        for (uint32_t i = 0; i < block->count; i++) {
            if (!is_used(&block->shard[i]))
                continue;
            moda_profile_thread *const thread = &threads[count++];
            read_shard(r, &block->shard[i], thread);
            add_to_process(r, &block->shard[i], thread);
            now->bytes = moda_read_plus(now->bytes, thread->balance_bytes);
            now->count = moda_read_plus(now->count, thread->balance_count);
        }
        ref = block->next;
    }
    return count;
}

/* What was published, what is live now, or what a lone thread has reached. */
static balance find_peak(const moda_reader *r, const moda_profile_thread *threads, size_t count,
                         balance now) {
    balance peak = {.bytes = r->header.peak_bytes, .count = r->header.peak_live};
    if (now.bytes > peak.bytes)
        peak = now;
    size_t at = 0;
    for (moda_ref ref = r->header.shard_blocks; ref != 0 && !moda_read_is_newer(r, ref);) {
        const moda_shard_block *const block = moda_read_again(r, ref);
        for (uint32_t i = 0; i < block->count; i++) {
            if (!is_used(&block->shard[i]) || at >= count)
                continue;
            const moda_profile_thread *const thread = &threads[at++];
            const balance others = {
                .bytes = moda_read_minus((uint64_t)now.bytes, (uint64_t)thread->balance_bytes),
                .count = moda_read_minus((uint64_t)now.count, (uint64_t)thread->balance_count),
            };
            raise_lone_peak(r, &block->shard[i], others, &peak);
        }
        ref = block->next;
    }
    return peak;
}

static uint64_t at_least_0(int64_t value) {
    return value > 0 ? (uint64_t)value : 0;
}

bool moda_read_threads(moda_reader *r) {
    size_t slots;
    if (!walk_shards(r, &slots))
        return false;
    moda_profile_thread *const threads = moda_arena_alloc(r->arena, (slots + 1) * sizeof *threads);
    if (threads == NULL)
        return moda_read_no_memory(r);
    balance now = {.bytes = 0};
    const size_t count = read_shards(r, threads, &now);
    const balance peak = find_peak(r, threads, count, now);
    /* The peak is now: each site's live figures are those of the peak. */
    if (now.bytes >= peak.bytes)
        r->header.peak_epoch = UINT64_MAX;
    mod_alloc_stats *const totals = &r->process->totals;
    totals->current_bytes = at_least_0(now.bytes);
    totals->live_count = at_least_0(now.count);
    totals->peak_bytes = at_least_0(peak.bytes);
    totals->peak_live_count = at_least_0(peak.count);
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++)
        r->profile->size_classes[k] = (uint64_t)moda_read_blocks(r->profile->size_classes[k]);
    if (count > 1)
        qsort(threads, count, sizeof *threads, by_slot);
    r->profile->threads = threads;
    r->profile->thread_count = count;
    return true;
}
