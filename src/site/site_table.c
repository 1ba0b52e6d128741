/* SPDX-License-Identifier: MIT
 *
 * site_table.c - gives each distinct call stack a small number, once.
 *
 * Memory is the region's, only grows, is never returned: an id, a ref and a pointer stay valid for ever.
 *
 *   header.site_buckets --> first[hash & mask] --> site --> site --> 0     by next_in_bucket
 *   header.site_list    --> newest site --> ... --> site 1 --> 0           by next_in_list
 *
 * Lookups take no lock. A new stack is rare: it is inserted under one lock, after a second look. When there
 * are more sites than buckets, a table of twice the size is made and each chain is split in two, in place,
 * while lookups go on; such a lookup can miss a site that is there, and finds it on its second look.
 *
 * Laws
 *   1. ids are 1..count without holes; id 0 is the overflow site, in no chain.
 *   2. a reader who sees a site sees all of its frames (release on link, acquire on walk).
 *   3. along every chain, old or new or half split, ids fall: a walk ends.
 *   4. two stacks are the same if all their frames are, and no object that a frame lies in was unmapped since
 *      the site was made; never because their hashes are.
 *   5. full is not an error: the overflow site takes it, shard->dropped counts it.
 *
 * The hash runs from the outermost frame inwards, two frames a step, and a thread keeps its value after each
 * step: where a walk says that the outer frames are those of the last one, only the inner ones are
 * hashed.
 */
#include "site/site_table.h"

#include "base/lock.h"
#include "mod_alloc.h"
#include "region/modules.h"
#include "region/region.h"
#include "site/deltas.h"

#include <string.h>

#define BUCKETS_MIN 64u
#define BUCKETS_MAX (UINT64_C(1) << 27)
#define BUCKETS_SHARE 8u /* of the region, at most, is the first table: the rest is for sites */
#define CACHE_ENTRIES 512u

typedef struct cache_entry {
    uint32_t hash;
    moda_ref site; /* 0 = empty */
} cache_entry;

struct moda_site_thread {
    uint32_t count; /* frames of the last stack; 0 = there is none */
    uint32_t generation;
    moda_ref last; /* its site */
    uint32_t padding;
    cache_entry cache[CACHE_ENTRIES];
    uint64_t state[]; /* of the last stack: after its 2 i outermost frames */
};

static moda_lock insert_lock;

size_t moda_site_thread_size(uint32_t frames_max) {
    return sizeof(moda_site_thread) + (frames_max / 2 + 1) * sizeof(uint64_t);
}

void moda_site_thread_forget(moda_site_thread *thread) {
    thread->count = 0;
    thread->last = 0;
}

moda_site *moda_site_overflow(void) {
    return moda_region_at(moda_region()->overflow_site);
}

/* ---- hash ---- */

/* All 128 bits of the product: each bit of either factor reaches half of the result's. */
MODA_INLINE uint64_t multiply_mix(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#define HASH_START 0x8bb84b93962eacc9u
#define HASH_EVEN 0x2d358dccaa6c78a5u
#define HASH_END 0x4b33a62ed433d4a3u

/* state: room for count / 2 + 1 values, of which the first 1 + known are right already. */
static uint32_t hash_frames(const uint64_t *frames, uint32_t count, uint64_t *state, uint32_t known) {
    const uint64_t *outermost = frames + count - 1;
    const uint32_t steps = count / 2;
    uint64_t hash = state[known];
    for (uint32_t i = known; i < steps; i++) {
        hash = multiply_mix(outermost[-2 * (int64_t)i] ^ HASH_EVEN, outermost[-2 * (int64_t)i - 1] ^ hash);
        state[i + 1] = hash;
    }
    if (count % 2 != 0) {
        hash ^= frames[0];
    }
    hash = multiply_mix(hash ^ count, HASH_END);
    return (uint32_t)(hash ^ (hash >> 32));
}

static uint32_t hash_alone(const uint64_t *frames, uint32_t count) {
    uint64_t state[MODA_FRAMES_MAX / 2 + 1];
    state[0] = HASH_START;
    return hash_frames(frames, count, state, 0);
}

/* ---- lookup ---- */

MODA_INLINE bool frames_are_equal(const uint64_t *a, const uint64_t *b, uint32_t count) {
    uint64_t different = 0;
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        different |= (a[i] ^ b[i]) | (a[i + 1] ^ b[i + 1]) | (a[i + 2] ^ b[i + 2]) | (a[i + 3] ^ b[i + 3]);
    }
    for (; i < count; i++) {
        different |= a[i] ^ b[i];
    }
    return different == 0;
}

MODA_INLINE bool is_stack_of(const moda_site *site, uint32_t hash, const uint64_t *frames, uint32_t count) {
    return site->hash == hash && site->frame_count == count && frames_are_equal(site->frames, frames, count);
}

static moda_site *find(const moda_region_header *header, uint32_t hash, const uint64_t *frames,
                       uint32_t count) {
    const moda_buckets *buckets = moda_region_at(moda_load_acquire(&header->site_buckets));
    const uint32_t generation = moda_load_relaxed(&header->module_generation);
    moda_ref ref = moda_load_acquire(&buckets->first[hash & (buckets->count - 1)]);
    while (ref != 0) {
        moda_site *site = moda_region_at(ref);
        if (is_stack_of(site, hash, frames, count)
            && (site->generation == generation
                || !moda_modules_were_unmapped_since(site->generation, frames, count))) {
            return site;
        }
        ref = moda_load_acquire(&site->next_in_bucket);
    }
    return NULL;
}

/* ---- insert: under the lock ---- */

/* Splits the chain `ref` into those of buckets `low` and `high`, in order. A link is stored only where it
 * changes. */
static void split_chain(moda_buckets *to, moda_ref ref, uint32_t low, uint32_t high) {
    moda_ref *tail[2] = {&to->first[low], &to->first[high]};
    while (ref != 0) {
        moda_site *site = moda_region_at(ref);
        const bool is_high = (site->hash & (to->count - 1)) == high;
        moda_store_release(tail[is_high], ref);
        tail[is_high] = &site->next_in_bucket;
        ref = moda_load_relaxed(&site->next_in_bucket);
    }
    moda_store_release(tail[0], 0);
    moda_store_release(tail[1], 0);
}

static void grow_buckets_locked(moda_region_header *header) {
    const moda_buckets *from = moda_region_at(header->site_buckets);
    if (header->site_count <= from->count || from->count >= BUCKETS_MAX) {
        return;
    }
    moda_buckets *to = moda_region_alloc(sizeof *to + 2 * (size_t)from->count * sizeof to->first[0]);
    if (to == NULL) {
        return; /* longer chains, then */
    }
    to->count = 2 * from->count;
    for (uint32_t i = 0; i < from->count; i++) {
        split_chain(to, moda_load_relaxed(&from->first[i]), i, i + from->count);
    }
    moda_store_release(&header->site_buckets, moda_region_ref(to));
}

static moda_site *new_site(const moda_walk *walk, uint32_t hash, const uint64_t *frames, uint32_t slot) {
    moda_site *site = moda_region_alloc(sizeof *site + walk->count * sizeof site->frames[0]);
    if (site == NULL) {
        return NULL;
    }
    site->hash = hash;
    site->frame_count = (uint16_t)walk->count;
    site->walk_end = walk->end;
    site->guessed = walk->guessed;
    site->first_slot = slot;
    site->counts.lifetime_min = UINT64_MAX;
    for (uint32_t i = 0; i < walk->count; i++) {
        site->frames[i] = frames[i];
    }
    return site;
}

static void link_site_locked(moda_region_header *header, moda_site *site) {
    moda_buckets *buckets = moda_region_at(header->site_buckets);
    moda_ref *first = &buckets->first[site->hash & (buckets->count - 1)];
    const moda_ref ref = moda_region_ref(site);
    site->id = header->site_count + 1;
    site->next_in_bucket = moda_load_relaxed(first);
    site->next_in_list = header->site_list;
    moda_store_release(&header->site_list, ref);
    moda_store_release(first, ref);
    moda_store_release(&header->site_count, site->id);
}

static bool has_room(const moda_region_header *header, size_t bytes) {
    return moda_load_relaxed(&header->used) + bytes <= header->memory_max;
}

MODA_COLD static moda_site *insert(moda_region_header *header, const moda_walk *walk, uint32_t hash,
                                   const uint64_t *frames, uint32_t slot) {
    /* Asked first, so that a full region costs later stacks no lock. */
    if (!has_room(header, sizeof(moda_site) + walk->count * sizeof frames[0])) {
        return NULL;
    }
    /* Before the lock: this may take a while. */
    moda_modules_note(frames, walk->count);
    moda_lock_take(&insert_lock, MODA_LOCK_SITES);
    moda_site *site = find(header, hash, frames, walk->count);
    if (site == NULL) {
        site = new_site(walk, hash, frames, slot);
        if (site != NULL) {
            site->generation = moda_load_relaxed(&header->module_generation);
            link_site_locked(header, site);
            grow_buckets_locked(header);
        }
    }
    moda_lock_release(&insert_lock, MODA_LOCK_SITES);
    return site;
}

static moda_site *find_or_insert(moda_shard *shard, const moda_walk *walk, uint32_t hash,
                                 const uint64_t *frames) {
    moda_region_header *header = moda_region();
    moda_site *site = find(header, hash, frames, walk->count);
    if (site == NULL) {
        site = insert(header, walk, hash, frames, shard->index);
    }
    if (site == NULL) {
        (void)moda_add_relaxed(&shard->dropped, 1);
        site = moda_site_overflow();
    }
    return site;
}

/* ---- the thread's memory ---- */

static moda_site *intern_remembering(moda_shard *shard, moda_site_thread *thread, const moda_walk *walk,
                                     const uint64_t *frames) {
    const uint32_t generation = moda_load_relaxed(&moda_region()->module_generation);
    const uint32_t count = walk->count;
    if (moda_unlikely(thread->generation != generation)) {
        memset(thread->cache, 0, sizeof thread->cache);
        moda_site_thread_forget(thread);
        thread->generation = generation;
    }
    const uint32_t reused = walk->reused < thread->count ? walk->reused : thread->count;
    if (reused == count && count == thread->count && thread->last != 0) {
        return moda_region_at(thread->last);
    }
    thread->state[0] = HASH_START;
    const uint32_t hash = hash_frames(frames, count, thread->state, reused / 2);
    cache_entry *entry = &thread->cache[hash % CACHE_ENTRIES];
    moda_site *site = moda_region_at(entry->site);
    if (moda_unlikely(entry->site == 0 || entry->hash != hash || !is_stack_of(site, hash, frames, count))) {
        site = find_or_insert(shard, walk, hash, frames);
        /* The overflow site is not remembered: there may be room later, if the disk was full. */
        *entry = (cache_entry){.hash = hash, .site = site->id == 0 ? 0 : moda_region_ref(site)};
    }
    thread->count = count;
    thread->last = site->id == 0 ? 0 : moda_region_ref(site);
    return site;
}

moda_site *moda_site_intern(moda_shard *shard, moda_site_thread *thread, const moda_walk *walk,
                            const uint64_t *frames) {
    if (moda_unlikely(walk->count == 0 || walk->count > MODA_FRAMES_MAX)) {
        if (thread != NULL) {
            moda_site_thread_forget(thread);
        }
        return moda_site_overflow();
    }
    if (moda_unlikely(thread == NULL)) {
        return find_or_insert(shard, walk, hash_alone(frames, walk->count), frames);
    }
    return intern_remembering(shard, thread, walk, frames);
}

/* ---- creation, fork ---- */

bool moda_site_table_create(uint64_t count) {
    moda_region_header *header = moda_region();
    uint32_t rounded = BUCKETS_MIN;
    const uint64_t most = header->memory_max / BUCKETS_SHARE / sizeof(moda_ref);
    while (rounded < count && rounded < BUCKETS_MAX && 2 * (uint64_t)rounded <= most) {
        rounded *= 2;
    }
    moda_buckets *buckets = moda_region_alloc(sizeof *buckets + rounded * sizeof buckets->first[0]);
    while (buckets == NULL && rounded > BUCKETS_MIN) {
        rounded /= 2;
        buckets = moda_region_alloc(sizeof *buckets + rounded * sizeof buckets->first[0]);
    }
    const moda_walk none = {.end = MOD_ALLOC_WALK_NONE};
    moda_site *overflow = new_site(&none, 0, NULL, 0);
    if (buckets == NULL || overflow == NULL) {
        return false;
    }
    buckets->count = rounded;
    moda_store_release(&header->overflow_site, moda_region_ref(overflow));
    moda_store_release(&header->site_buckets, moda_region_ref(buckets));
    return true;
}

void moda_site_fork_prepare(void) {
    moda_lock_take(&insert_lock, MODA_LOCK_SITES);
    moda_site_hold_counts();
}

void moda_site_fork_parent(void) {
    moda_site_let_counts_go();
    moda_lock_release(&insert_lock, MODA_LOCK_SITES);
}

/* Each page that a child writes to costs it a fault. */
static void clear_buckets(moda_buckets *buckets) {
    for (uint32_t i = 0; i < buckets->count; i++) {
        if (buckets->first[i] != 0) {
            buckets->first[i] = 0;
        }
    }
}

/* A delta that its owner was changing when the child's memory was copied, or whose site is not in the copy. */
static void repair_deltas(moda_region_header *header, moda_shard *shard) {
    if (shard->is_at_site != 0) {
        shard->is_at_site = 0;
    }
    moda_delta_cache *cache = moda_region_at(shard->deltas);
    for (uint32_t i = 0; cache != NULL && i < cache->entries; i++) {
        moda_site_delta *delta = &cache->delta[i];
        const uint64_t end = (uint64_t)delta->site * MODA_REF_UNIT + sizeof(moda_site);
        const moda_site *site = end <= header->used ? moda_region_at(delta->site) : NULL;
        if (delta->site != 0 && (site == NULL || site->id > header->site_count)) {
            memset(&delta->counts, 0, sizeof delta->counts);
            delta->site = 0;
        }
        if ((delta->seq & 1) != 0) {
            delta->seq &= ~UINT32_C(1);
        }
    }
}

static void begin_site_anew(moda_site *site, moda_inherited *inherited) {
    moda_site_counts *c = &site->counts;
    const moda_site_inherited live = {
        .samples = c->alloc_samples - c->free_samples,
        .count = c->alloc_count - c->free_count,
        .bytes = c->alloc_bytes - c->free_bytes,
        .requested = c->alloc_requested - c->free_requested,
    };
    *c = (moda_site_counts){
        .alloc_samples = live.samples,
        .alloc_count = live.count,
        .alloc_bytes = live.bytes,
        .alloc_requested = live.requested,
        .lifetime_min = UINT64_MAX,
        .at_peak_epoch = moda_region()->peak_epoch, /* the child's first peak is what it has now */
        .at_peak_count = (int64_t)live.count,
        .at_peak_bytes = (int64_t)live.bytes,
        .at_peak_requested = (int64_t)live.requested,
        .peak_bytes = (int64_t)live.bytes,
        .peak_count = (int64_t)live.count,
    };
    if (inherited != NULL) {
        inherited->of[site->id] = live;
    }
}

/* What came and went before the fork is the parent's to tell; what is live is noted as inherited. Where there is
 * no room for the note, inherited blocks look like the child's own. */
static void begin_anew(moda_region_header *header) {
    const uint32_t count = header->site_count + 1;
    moda_inherited *inherited = moda_region_at(header->inherited); /* of a child that forks itself */
    if (inherited == NULL || inherited->count < count) {
        inherited = moda_region_alloc(sizeof *inherited + count * sizeof inherited->of[0]);
        if (inherited != NULL) {
            inherited->count = count;
        }
    }
    moda_site *site = moda_region_at(header->site_list);
    for (; site != NULL; site = moda_region_at(site->next_in_list)) {
        begin_site_anew(site, inherited);
    }
    begin_site_anew(moda_site_overflow(), inherited);
    moda_store_release(&header->inherited, moda_region_ref(inherited));
}

void moda_site_fork_child(void) {
    moda_lock_reset(&insert_lock, MODA_LOCK_SITES);
    moda_site_let_counts_go();
    moda_region_header *header = moda_region();
    moda_buckets *buckets = header != NULL ? moda_region_at(header->site_buckets) : NULL;
    if (buckets == NULL) {
        return;
    }
    moda_site *site = moda_region_at(header->site_list);
    header->site_count = site != NULL ? site->id : 0;
    if (moda_region_is_copy) {
        clear_buckets(buckets);
        for (; site != NULL; site = moda_region_at(site->next_in_list)) {
            site->next_in_bucket = 0;
        }
        /* ... and once more from the newest on, each behind those before it. */
        for (site = moda_region_at(header->site_list); site != NULL;
             site = moda_region_at(site->next_in_list)) {
            moda_ref *end = &buckets->first[site->hash & (buckets->count - 1)];
            while (*end != 0) {
                end = &((moda_site *)moda_region_at(*end))->next_in_bucket;
            }
            *end = moda_region_ref(site);
        }
    }
    for (site = moda_region_at(header->site_list); site != NULL; site = moda_region_at(site->next_in_list)) {
        if ((site->counts_lock & 1) != 0) {
            site->counts_lock++;
        }
    }
    site = moda_site_overflow();
    site->counts_lock = (site->counts_lock + 1) & ~UINT32_C(1);
    for (moda_shard_block *block = moda_region_at(header->shard_blocks); block != NULL;
         block = moda_region_at(block->next)) {
        for (uint32_t i = 0; i < block->count; i++) {
            repair_deltas(header, &block->shard[i]);
            moda_site_flush(&block->shard[i]);
        }
    }
    begin_anew(header);
}

/* ---- laws ---- */

static bool is_in_its_bucket(const moda_buckets *buckets, const moda_site *site) {
    uint32_t id = UINT32_MAX;
    bool is_found = false;
    moda_ref ref = moda_load_acquire(&buckets->first[site->hash & (buckets->count - 1)]);
    while (ref != 0) {
        const moda_site *other = moda_region_at(ref);
        if (other->id >= id) {
            return false; /* law 3 */
        }
        id = other->id;
        is_found = is_found || other == site;
        ref = moda_load_acquire(&other->next_in_bucket);
    }
    return is_found;
}

bool moda_site_table_is_valid(void) {
    const moda_region_header *header = moda_region();
    const moda_buckets *buckets = moda_region_at(header->site_buckets);
    const moda_site *overflow = moda_site_overflow();
    if (overflow == NULL || overflow->id != 0 || overflow->frame_count != 0) {
        return false;
    }
    uint32_t id = header->site_count;
    for (const moda_site *site = moda_region_at(header->site_list); site != NULL;
         site = moda_region_at(site->next_in_list), id--) {
        if (site->id != id || site->hash != hash_alone(site->frames, site->frame_count)
            || !is_in_its_bucket(buckets, site) || (site->counts_lock & 1) != 0) {
            return false;
        }
        const moda_site *found = find(header, site->hash, site->frames, site->frame_count);
        if (found == NULL || (found != site && found->generation == site->generation)) {
            return false; /* the same stack twice */
        }
    }
    return id == 0;
}
