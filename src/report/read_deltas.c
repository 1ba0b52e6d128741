/* SPDX-License-Identifier: MIT
 *
 * read_deltas.c - adds what threads still hold for sites (site/deltas.c) to the sites' counts, in the copy.
 *
 * read_sites.c calls, when the list of shards has been checked. Memory: a list of the deltas in use, freed at once.
 *
 * Laws
 *   1. a count is taken once: either in the delta or in the site that it has been added to.
 *   2. a cache belongs to one shard.
 */
#include "report/read.h"

#include <stdlib.h>

/* Adds a delta to what its site has, as the thread will when it gives the delta up. */
static void add_delta(moda_site_counts *to, const moda_site_counts *delta, uint64_t epoch) {
    const moda_at_peak a = moda_read_at_peak(to, epoch), b = moda_read_at_peak(delta, epoch);
    const int64_t reached =
        moda_read_plus(moda_read_minus(to->alloc_bytes, to->free_bytes), delta->peak_bytes);
    if (delta->peak_bytes > 0 && reached > to->peak_bytes) {
        to->peak_bytes = reached;
        to->peak_count = moda_read_plus(moda_read_minus(to->alloc_count, to->free_count), delta->peak_count);
    }
    to->alloc_samples += delta->alloc_samples;
    to->alloc_count += delta->alloc_count;
    to->alloc_bytes += delta->alloc_bytes;
    to->alloc_requested += delta->alloc_requested;
    to->free_samples += delta->free_samples;
    to->free_count += delta->free_count;
    to->free_bytes += delta->free_bytes;
    to->free_requested += delta->free_requested;
    to->lifetime_count += delta->lifetime_count;
    to->lifetime_sum = moda_site_add_lives(to->lifetime_sum, delta->lifetime_sum);
    if (delta->lifetime_count != 0) {
        if (delta->lifetime_min < to->lifetime_min)
            to->lifetime_min = delta->lifetime_min;
        if (delta->lifetime_max > to->lifetime_max)
            to->lifetime_max = delta->lifetime_max;
    }
    to->short_lived_count += delta->short_lived_count;
    to->remote_free_count += delta->remote_free_count;
    to->moved_count += delta->moved_count;
    to->at_peak_epoch = epoch;
    to->at_peak_count = moda_read_plus(a.count, b.count);
    to->at_peak_bytes = moda_read_plus(a.bytes, b.bytes);
    to->at_peak_requested = moda_read_plus(a.requested, b.requested);
}

/* A delta in use, with its site. */
typedef struct held {
    moda_site_delta *delta;
    moda_site *site;
} held;

typedef struct held_list {
    held *all;
    size_t count, room;
    bool *is_seen; /* by place: caches already listed */
} held_list;

static bool list_delta(moda_reader *r, const uint64_t *sites, size_t count, moda_site_delta *delta,
                       held_list *list) {
    if (delta->site == 0 && !r->is_live)
        return true;
    moda_read_settle(r, delta, sizeof *delta, &delta->seq);
    if (delta->site == 0 || moda_read_is_newer(r, delta->site))
        return true;
    const uint64_t key = (uint64_t)delta->site * MODA_REF_UNIT;
    const bool is_listed = count > 0 && bsearch(&key, sites, count, sizeof key, moda_read_by_offset) != NULL;
    if (!is_listed && r->is_live)
        return true; /* made since the list was read */
    if (!is_listed)
        return moda_read_bad(r, moda_read_offset_of(r, &delta->site), "a delta's site", delta->site,
                             "the ref of a site in the list of sites");
    if (list->count == list->room) {
        const size_t room = list->room == 0 ? 256 : list->room * 2;
        held *const grown = realloc(list->all, room * sizeof *grown);
        if (grown == NULL)
            return moda_read_no_memory(r);
        list->all = grown;
        list->room = room;
    }
    list->all[list->count++] = (held){.delta = delta, .site = moda_read_again(r, delta->site)};
    return true;
}

static bool list_cache(moda_reader *r, const uint64_t *sites, size_t count, const moda_shard *shard,
                       held_list *list) {
    if (shard->deltas == 0 || moda_read_is_newer(r, shard->deltas))
        return true;
    moda_delta_cache *const cache = moda_read_record(r, moda_read_offset_of(r, &shard->deltas), shard->deltas,
                                                     sizeof *cache, "cache of deltas");
    if (cache == NULL)
        return false;
    const uint64_t offset = moda_read_offset_of(r, cache);
    if (cache->entries > (r->size - offset - sizeof *cache) / sizeof cache->delta[0])
        return moda_read_bad(r, offset, "number of deltas", cache->entries, "as many as fit before the end");
    /* Two shards that share a cache would count it twice, and a damaged profile could make the reading take for
     * ever. */
    if (list->is_seen[offset / MODA_REGION_ALIGN])
        return moda_read_bad(r, moda_read_offset_of(r, &shard->deltas), "the ref to a cache of deltas",
                             shard->deltas, "one that no other shard has");
    list->is_seen[offset / MODA_REGION_ALIGN] = true;
    for (uint32_t i = 0; i < cache->entries; i++)
        if (!list_delta(r, sites, count, &cache->delta[i], list))
            return false;
    return true;
}

/* A thread gives a delta up by adding it to the site and emptying it: taken at different moments the two would
 * count it twice or not at all. So the site is taken again until the delta holds still around it. */
static void take_together(moda_reader *r, held *pair) {
    if (!r->is_live)
        return;
    for (int i = 0; i < MODA_READ_TRIES; i++) {
        const uint32_t seq = pair->delta->seq;
        moda_read_settle(r, &pair->site->counts_lock, sizeof *pair->site - offsetof(moda_site, counts_lock),
                         &pair->site->counts_lock);
        uint32_t now;
        if (!moda_read_fetch(r, moda_read_offset_of(r, &pair->delta->seq), &now, sizeof now))
            break;
        if (now == seq)
            return;
        const moda_ref site = pair->delta->site;
        moda_read_settle(r, pair->delta, sizeof *pair->delta, &pair->delta->seq);
        if (pair->delta->site != site) { /* it is another site's by now: this site has all */
            moda_read_settle(r, &pair->site->counts_lock,
                             sizeof *pair->site - offsetof(moda_site, counts_lock), &pair->site->counts_lock);
            pair->delta = NULL;
            return;
        }
    }
    r->torn++;
}

bool moda_read_add_deltas(moda_reader *r, const uint64_t *sites, size_t count) {
    held_list list = {.is_seen = calloc((size_t)(r->size / MODA_REGION_ALIGN) + 1, sizeof *list.is_seen)};
    if (list.is_seen == NULL)
        return moda_read_no_memory(r);
    bool is_fine = true;
    for (moda_ref ref = r->header.shard_blocks; is_fine && ref != 0 && !moda_read_is_newer(r, ref);) {
        const moda_shard_block *const block = moda_read_again(r, ref);
        for (uint32_t i = 0; is_fine && i < block->count; i++)
            is_fine = list_cache(r, sites, count, &block->shard[i], &list);
        ref = block->next;
    }
    for (size_t i = 0; is_fine && i < list.count; i++)
        take_together(r, &list.all[i]);
    for (size_t i = 0; is_fine && i < list.count; i++)
        if (list.all[i].delta != NULL)
            add_delta(&list.all[i].site->counts, &list.all[i].delta->counts, r->header.peak_epoch);
    free(list.all);
    free(list.is_seen);
    return is_fine;
}
