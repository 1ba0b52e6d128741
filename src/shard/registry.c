/* SPDX-License-Identifier: MIT
 *
 * registry.c - who has which slot.
 *
 * hot/slow.c takes a slot at a thread's first allocation and leaves it from a thread-specific-data
 * destructor. Slots lie in blocks in the region and are never given back: what a thread counted stays
 * counted after it. Under the registry's lock, but for readers, who walk the blocks without it.
 *
 *   header.shard_blocks --> block --> block --> 0      slot 0 is the orphan shard
 *   blocks[number of the slot's block]                 of this process: from an index to its slot
 *   free_slots[number]                                 of this process: those in the block that no thread has
 *
 * Laws
 *   1. a slot's counters only ever go on: nothing is zeroed, a reader's base is taken off instead;
 *   2. a block is linked when it is filled in, and its `next` is set once;
 *   3. to take or to leave a slot is to look at no other one, however many there are; only where none is free some
 *      are looked at, at most LOOK_AT_MOST, and a block is made;
 *   4. of the free slots the lowest is taken: which slots threads have, and so what is sampled, hangs on the order
 *      in which they begin, not on the order in which others have ended.
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

/* All blocks, each set once: also those that found no room in the region (a full disk, more than 32,768 threads) and are
 * seen by this process alone. For 131,072 threads at a time: four times the stacks that Linux has room for by default. The
 * tables count as memory promised, so there are no more. */
enum { BLOCKS_MAX = 1 + (1 << 17) / SLOTS_LATER };
static moda_shard_block *blocks[BLOCKS_MAX];
static moda_shard_block *last_in_region;

/* A bit for each slot of a block that is free, and one for each block that has such a slot. */
enum { FREE_WORDS = BLOCKS_MAX / 64 + 1 };
static uint32_t free_slots[BLOCKS_MAX];
static uint64_t blocks_with_free[FREE_WORDS];
_Static_assert(SLOTS_FIRST <= 32 && SLOTS_LATER == 32, "a block's slots have a bit each");

static size_t block_bytes(uint32_t count) {
    return sizeof(moda_shard_block) + count * sizeof(moda_shard);
}

static uint32_t block_number(uint32_t index) {
    return index < SLOTS_FIRST ? 0 : 1 + (index - SLOTS_FIRST) / SLOTS_LATER;
}

moda_shard *moda_registry_slot(uint32_t index) {
    const uint32_t number = block_number(index);
    moda_shard_block *block = number < BLOCKS_MAX ? moda_load_acquire(&blocks[number]) : NULL;
    return block ? &block->shard[index - block->first_index] : NULL;
}

static void set_free_locked(const moda_shard *shard) {
    const uint32_t number = block_number(shard->index);
    free_slots[number] |= UINT32_C(1) << (shard->index - blocks[number]->first_index);
    blocks_with_free[number / 64] |= UINT64_C(1) << number % 64;
}

/* The lowest slot that may be free, its bit taken; NULL if there is none. */
static moda_shard *pop_free_locked(void) {
    const uint32_t words = block_number(moda_region()->slot_count - 1) / 64 + 1;
    for (uint32_t i = 0; i < words; i++) {
        if (blocks_with_free[i] != 0) {
            const uint32_t number = 64 * i + (uint32_t)__builtin_ctzll(blocks_with_free[i]);
            const uint32_t slot = (uint32_t)__builtin_ctz(free_slots[number]);
            free_slots[number] &= free_slots[number] - 1;
            if (free_slots[number] == 0) {
                blocks_with_free[i] &= blocks_with_free[i] - 1;
            }
            return &blocks[number]->shard[slot];
        }
    }
    return NULL;
}

/* A child that could get no region of its own shares its parent's slots, under no lock: some may not be free any more. */
static moda_shard *find_free_locked(void) {
    moda_shard *shard = pop_free_locked();
    while (shard && moda_load_acquire(&shard->state) != MODA_SLOT_FREE) {
        shard = pop_free_locked();
    }
    return shard;
}

static void link_block_locked(moda_shard_block *block) {
    moda_region_header *header = moda_region();
    moda_ref *link = last_in_region ? &last_in_region->next : &header->shard_blocks;
    while (*link) {
        link = &((moda_shard_block *)moda_region_at(*link))->next;
    }
    moda_store_release(link, moda_region_ref(block));
    last_in_region = block;
}

static bool add_block_locked(uint32_t count) {
    moda_region_header *header = moda_region();
    const uint32_t number = block_number(header->slot_count);
    if (number >= BLOCKS_MAX) {
        return false;
    }
    moda_shard_block *block = moda_region_alloc_for_slots(block_bytes(count));
    const bool is_private = !block;
    if (is_private) {
        block = moda_os_map(block_bytes(count));
        if (!block) {
            return false;
        }
    }
    block->first_index = header->slot_count;
    block->count = count;
    for (uint32_t i = 0; i < count; i++) {
        block->shard[i].index = block->first_index + i;
        block->shard[i].alloc_word = MODA_ALLOC_WORD_NEW;
        block->shard[i].pending.bytes = INT64_MIN;
    }
    moda_store_release(&blocks[number], block);
    if (!is_private) {
        link_block_locked(block);
    }
    /* Only now: who reads the count finds the slots. */
    moda_store_release(&header->slot_count, header->slot_count + count);
    for (uint32_t i = block->first_index == 0; i < count; i++) { /* but the orphan shard */
        set_free_locked(&block->shard[i]);
    }
    return true;
}

bool moda_registry_initialize(void) {
    moda_lock_take(&registry_lock, MODA_LOCK_REGISTRY);
    const bool is_done = add_block_locked(SLOTS_FIRST);
    if (is_done) {
        moda_shard_orphan = moda_registry_slot(0);
        moda_shard_orphan->state = MODA_SLOT_ORPHAN;
    }
    moda_lock_release(&registry_lock, MODA_LOCK_REGISTRY);
    return is_done;
}

/* One whose thread ended without running its destructors (a raw clone, or an allocation in the last destructor of all). */
static moda_shard *find_dead_locked(void) {
    static uint32_t next_look = 1;
    const uint32_t count = moda_region()->slot_count;
    for (uint32_t n = 0; count > LOOK_FOR_DEAD_FROM - 1 && n < LOOK_AT_MOST && n < count; n++) {
        next_look = next_look + 1 < count ? next_look + 1 : 1;
        moda_shard *shard = moda_registry_slot(next_look);
        if (shard && shard->state == MODA_SLOT_TAKEN && moda_os_thread_is_gone(shard->tid)) {
            moda_store_relaxed(&moda_region()->threads_now, moda_region()->threads_now - 1);
            return shard;
        }
    }
    return NULL;
}

static moda_shard *find_slot_locked(void) {
    moda_shard *shard = find_free_locked();
    if (!shard) {
        shard = find_dead_locked();
    }
    if (!shard && add_block_locked(SLOTS_LATER)) {
        shard = find_free_locked();
    }
    return shard;
}

/* The one shard whose mark is the whole process's, if there is one. */
static moda_shard *solo_shard_locked(void) {
    const moda_region_header *header = moda_region();
    if (header->threads_now != 1) {
        return NULL;
    }
    for (uint32_t i = 1; i < header->slot_count; i++) {
        moda_shard *shard = moda_registry_slot(i);
        if (shard && shard->state == MODA_SLOT_TAKEN) { /* the only one */
            return moda_load_relaxed(&shard->mark_epoch) == header->solo_epoch ? shard : NULL;
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
    set_free_locked(shard);
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
        moda_shard *shard = moda_registry_slot(i);
        if (shard) {
            set_base(shard);
        }
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

/* Who was interrupted may have been about to say that `before` holds no more than a mark's. */
void moda_shard_recover(moda_shard *shard) {
    if ((shard->seq & 1) != 0) {
        moda_shard_put_back(shard);
    }
    shard->before_what = MODA_BEFORE_MARK;
}

/* What leads to the slots, from the region's list, which may have blocks that the parent made after the fork. Slots between
 * them that it made in memory of its own are not there. */
static void find_blocks_again(void) {
    moda_region_header *header = moda_region();
    last_in_region = NULL;
    for (moda_shard_block *block = moda_region_at(header->shard_blocks); block;
         block = moda_region_at(block->next)) {
        const uint32_t number = block_number(block->first_index);
        if (number >= BLOCKS_MAX) {
            break;
        }
        blocks[number] = block;
        last_in_region = block;
        if (header->slot_count < block->first_index + block->count) {
            header->slot_count = block->first_index + block->count;
        }
    }
}

/* The lock is held, by the thread that forked. */
void moda_registry_fork_child(void) {
    moda_region_header *header = moda_region();
    find_blocks_again();
    forget_samples(moda_shard_orphan);
    for (uint32_t i = 0; i <= block_number(header->slot_count - 1); i++) {
        free_slots[i] = 0;
        blocks_with_free[i / 64] = 0;
    }
    for (uint32_t i = 1; i < header->slot_count; i++) {
        moda_shard *shard = moda_registry_slot(i);
        if (!shard) {
            continue;
        }
        forget_samples(shard);
        if (shard == moda_shard_mine()) {
            shard->tid = moda_os_tid();
            continue;
        }
        if (shard->state == MODA_SLOT_TAKEN) {
            if ((shard->seq & 1) != 0) {
                moda_shard_put_back(shard);
            }
            shard->state = MODA_SLOT_FREE;
            shard->thread_windows = 0;
        }
        set_free_locked(shard);
    }
    header->threads_now = moda_shard_mine() ? 1 : 0;
    header->threads_ever = header->threads_now;
    set_bases_locked();
    moda_peak_fork_child();
    moda_lock_reset(&registry_lock, MODA_LOCK_REGISTRY);
}
