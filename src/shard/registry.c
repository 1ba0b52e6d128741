/* SPDX-License-Identifier: MIT
 *
 * registry.c - who has which slot.
 *
 * hot/slow.c takes a slot at a thread's first allocation and leaves it from a thread-specific-data
 * destructor. Slots lie in blocks in the region and are never given back: what a thread counted stays
 * counted after it. Under the registry's lock, but for readers, who walk the blocks without it.
 *
 *   header.shard_blocks --> block --> block --> 0      slot 0 is the orphan shard
 *
 * Laws
 *   1. a slot's counters only ever go on: nothing is zeroed, a reader's base is taken off instead;
 *   2. a block is linked when it is filled in, and its `next` is set once.
 */
#include "shard/peak.h"
#include "shard/shard.h"

#include "base/lock.h"
#include "os/os.h"
#include "region/region.h"

#include <string.h>

enum { SLOTS_FIRST = 8, SLOTS_LATER = 32, LOOK_FOR_DEAD_FROM = 8, LOOK_AT_MOST = 64 };

MODA_TLS moda_shard *moda_shard_of_thread;
MODA_TLS moda_shard *moda_shard_set_aside;
moda_shard *moda_shard_orphan;

static moda_lock registry_lock;
/* Where the region is full: blocks of our own, seen by this process alone. */
enum { PRIVATE_BLOCKS = 1024 };
static moda_shard_block *private_block[PRIVATE_BLOCKS];
static uint32_t private_count;

static size_t block_bytes(uint32_t count) {
    return sizeof(moda_shard_block) + count * sizeof(moda_shard);
}

static moda_shard_block *last_block(void) {
    moda_shard_block *block = moda_region_at(moda_load_acquire(&moda_region()->shard_blocks));
    while (block && moda_load_acquire(&block->next)) {
        block = moda_region_at(moda_load_acquire(&block->next));
    }
    return block;
}

static moda_shard_block *add_block_locked(uint32_t count) {
    moda_region_header *header = moda_region();
    moda_shard_block *block = moda_region_alloc(block_bytes(count));
    const bool is_private = !block;
    if (is_private) {
        block = private_count < PRIVATE_BLOCKS ? moda_os_map(block_bytes(count)) : NULL;
        if (!block) {
            return NULL;
        }
    }
    block->first_index = header->slot_count;
    block->count = count;
    for (uint32_t i = 0; i < count; i++) {
        block->shard[i].index = block->first_index + i;
        block->shard[i].alloc_word = MODA_ALLOC_WORD_NEW;
        block->shard[i].pending.bytes = INT64_MIN;
    }
    if (is_private) {
        private_block[private_count] = block;
        moda_store_release(&private_count, private_count + 1);
    } else {
        moda_shard_block *last = last_block();
        moda_store_release(last ? &last->next : &header->shard_blocks, moda_region_ref(block));
    }
    /* Only now: who reads the count finds the slots. */
    moda_store_release(&header->slot_count, header->slot_count + count);
    return block;
}

bool moda_registry_initialize(void) {
    moda_lock_take(&registry_lock, MODA_LOCK_REGISTRY);
    moda_shard_block *block = add_block_locked(SLOTS_FIRST);
    if (block) {
        block->shard[0].state = MODA_SLOT_ORPHAN;
        moda_shard_orphan = &block->shard[0];
    }
    moda_lock_release(&registry_lock, MODA_LOCK_REGISTRY);
    return block != NULL;
}

static moda_shard *slot_in(moda_shard_block *block, uint32_t index) {
    const uint32_t offset = index - block->first_index;
    return offset < block->count ? &block->shard[offset] : NULL;
}

moda_shard *moda_registry_slot(uint32_t index) {
    moda_ref ref = moda_load_acquire(&moda_region()->shard_blocks);
    while (ref) {
        moda_shard_block *block = moda_region_at(ref);
        moda_shard *shard = slot_in(block, index);
        if (shard) {
            return shard;
        }
        ref = moda_load_acquire(&block->next);
    }
    for (uint32_t i = 0; i < moda_load_acquire(&private_count); i++) {
        moda_shard *shard = slot_in(private_block[i], index);
        if (shard) {
            return shard;
        }
    }
    return NULL;
}

/* A free slot; or else, looking at no more than LOOK_AT_MOST of them, one whose thread ended without
 * running its destructors (a raw clone, or an allocation in the last destructor of all). */
static moda_shard *find_slot_locked(void) {
    const uint32_t count = moda_region()->slot_count;
    for (uint32_t i = 1; i < count; i++) {
        moda_shard *shard = moda_registry_slot(i);
        if (shard->state == MODA_SLOT_FREE) {
            return shard;
        }
    }
    static uint32_t next_look = 1;
    for (uint32_t n = 0; count > LOOK_FOR_DEAD_FROM - 1 && n < LOOK_AT_MOST && n < count; n++) {
        next_look = next_look + 1 < count ? next_look + 1 : 1;
        moda_shard *shard = moda_registry_slot(next_look);
        if (shard->state == MODA_SLOT_TAKEN && moda_os_thread_is_gone(shard->tid)) {
            moda_store_relaxed(&moda_region()->threads_now, moda_region()->threads_now - 1);
            return shard;
        }
    }
    moda_shard_block *block = add_block_locked(SLOTS_LATER);
    return block ? &block->shard[0] : NULL;
}

/* The one shard whose mark is the whole process's, if there is one. */
static moda_shard *solo_shard_locked(void) {
    const moda_region_header *header = moda_region();
    if (header->threads_now != 1) {
        return NULL;
    }
    for (uint32_t i = 1; i < header->slot_count; i++) {
        moda_shard *shard = moda_registry_slot(i);
        if (shard->state == MODA_SLOT_TAKEN && moda_load_relaxed(&shard->mark_epoch) == header->solo_epoch) {
            return shard;
        }
    }
    return NULL;
}

moda_shard *moda_registry_take(void) {
    moda_region_header *header = moda_region();
    moda_lock_take(&registry_lock, MODA_LOCK_REGISTRY);
    moda_shard *solo = solo_shard_locked();
    moda_shard *shard = find_slot_locked();
    if (shard) {
        shard->tid = moda_os_tid();
        moda_store_relaxed(&shard->incarnation, shard->incarnation + 1); /* totals.c looks at it */
        shard->started_ticks = moda_ticks();
        shard->thread_windows = 0;
        moda_shard_set_mark(shard);
        moda_shard_store_mark(&shard->pending, (moda_peak_mark){.bytes = INT64_MIN});
        moda_shard_store_mark(&shard->thread_peak,
                              (moda_peak_mark){moda_shard_balance(shard), moda_shard_live(shard)});
        moda_totals_of_shard(shard, &shard->started);
        moda_os_thread_name(shard->name);
        moda_store_release(&shard->state, MODA_SLOT_TAKEN);
        moda_peak_threads_changed(solo);
        moda_store_relaxed(&header->threads_ever, header->threads_ever + 1);
        moda_store_relaxed(&header->threads_now, header->threads_now + 1);
    }
    moda_lock_release(&registry_lock, MODA_LOCK_REGISTRY);
    if (shard) {
        moda_shard_publish(shard);
    }
    return shard;
}

void moda_registry_leave(moda_shard *shard) {
    moda_region_header *header = moda_region();
    moda_shard_publish(shard);
    moda_lock_take(&registry_lock, MODA_LOCK_REGISTRY);
    moda_peak_threads_changed(solo_shard_locked());
    moda_store_release(&shard->state, MODA_SLOT_FREE);
    moda_store_relaxed(&header->threads_now, header->threads_now - 1);
    moda_lock_release(&registry_lock, MODA_LOCK_REGISTRY);
}

void moda_registry_lock(void) {
    moda_lock_take(&registry_lock, MODA_LOCK_REGISTRY);
}

void moda_registry_unlock(void) {
    moda_lock_release(&registry_lock, MODA_LOCK_REGISTRY);
}

static void set_base(moda_shard *shard) {
    moda_counts counts;
    moda_totals_of_shard(shard, &counts);
    moda_store_relaxed(&shard->base_seq, shard->base_seq + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    moda_store_relaxed(&shard->base.alloc_count, counts.alloc_count);
    moda_store_relaxed(&shard->base.free_count, counts.free_count);
    moda_store_relaxed(&shard->base.realloc_count, counts.realloc_count);
    moda_store_relaxed(&shard->base.total_bytes, counts.total_bytes);
    moda_store_relaxed(&shard->base.freed_bytes, counts.freed_bytes);
    moda_store_relaxed(&shard->base.requested_bytes, counts.requested_bytes);
    moda_store_release(&shard->base_seq, shard->base_seq + 1);
}

static void set_bases_locked(void) {
    for (uint32_t i = 0; i < moda_region()->slot_count; i++) {
        set_base(moda_registry_slot(i));
    }
}

void moda_registry_reset(moda_shard *mine) {
    moda_lock_take(&registry_lock, MODA_LOCK_REGISTRY);
    set_bases_locked();
    moda_peak_reset(mine);
    moda_lock_release(&registry_lock, MODA_LOCK_REGISTRY);
}

/* The parent's profile has them. */
static void forget_samples(moda_shard *shard) {
    shard->samples = 0;
    shard->dropped = 0;
    memset(shard->walks, 0, sizeof shard->walks);
    memset(shard->size_samples, 0, sizeof shard->size_samples);
}

/* Of a shard whose owner was caught in the middle of a change that never goes on: its sums are what they were before. */
static void put_back(moda_shard *shard) {
    const moda_counts *before = &shard->before;
    shard->free_budget = (int64_t)before->freed_bytes + moda_shard_freed_mark(shard);
    if (shard->before_what == MODA_BEFORE_COUNTDOWN) {
        shard->budget = (int64_t)before->total_bytes + moda_shard_countdown(shard);
        shard->alloc_base = before->alloc_count - moda_alloc_word_blocks(shard->alloc_word);
        shard->requested_base = before->requested_bytes - moda_alloc_word_requested(shard->alloc_word);
        shard->free_base = before->free_count - moda_free_word_blocks(shard->free_word);
    }
    shard->seq++;
}

/* Who was interrupted may have been about to say that `before` holds no more than a mark's. */
void moda_shard_recover(moda_shard *shard) {
    if ((shard->seq & 1) != 0) {
        put_back(shard);
    }
    shard->before_what = MODA_BEFORE_MARK;
}

/* The lock is held, by the thread that forked. */
void moda_registry_fork_child(void) {
    moda_region_header *header = moda_region();
    forget_samples(moda_shard_orphan);
    for (uint32_t i = 1; i < header->slot_count; i++) {
        moda_shard *shard = moda_registry_slot(i);
        forget_samples(shard);
        if (shard == moda_shard_mine()) {
            shard->tid = moda_os_tid();
        } else if (shard->state == MODA_SLOT_TAKEN) {
            if ((shard->seq & 1) != 0) {
                put_back(shard);
            }
            shard->state = MODA_SLOT_FREE;
            shard->thread_windows = 0;
        }
    }
    header->threads_now = moda_shard_mine() ? 1 : 0;
    header->threads_ever = header->threads_now;
    set_bases_locked();
    moda_peak_fork_child();
    moda_lock_reset(&registry_lock, MODA_LOCK_REGISTRY);
}
