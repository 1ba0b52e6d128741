/* SPDX-License-Identifier: MIT
 *
 * visit.c - the sites of our own process: mod_alloc_call_sites and its array form, and what sampling did.
 *
 * Called by the program, while other threads allocate. No lock is held while a visitor runs: the list only
 * grows at its head, so the sites there were at the start are each met once. Memory: the array form maps its
 * own.
 */
#include "site/visit.h"

#include "os/os.h"
#include "region/region.h"
#include "shard/shard.h"
#include "site/deltas.h"
#include "site/site_table.h"

/* ---- units ---- */

static uint64_t whole(uint64_t fixed) {
    return (fixed + MODA_COUNT_ONE / 2) / MODA_COUNT_ONE;
}

/* A figure that can't be negative at rest, but can be read so between two threads' counts. */
static uint64_t not_negative(int64_t value) {
    return value > 0 ? (uint64_t)value : 0;
}

static double ns_per_tick(const moda_region_header *header) {
    const uint64_t ticks = moda_ticks() - header->start_ticks;
    const uint64_t ns = moda_os_monotonic_ns() - header->start_monotonic_ns;
    return ticks != 0 ? (double)ns / (double)ticks : 0;
}

/* True if the heap stands at its peak at this moment, or at one as high: then what is live is what was live at
 * the peak, and no epoch says so yet. */
static bool is_at_peak(void) {
    moda_totals totals;
    moda_totals_read(&totals);
    return totals.balance >= moda_peak_now(&totals).bytes;
}

/* ---- one site ---- */

typedef struct view {
    double ns_per_tick;
    bool is_at_peak;
} view;

static view view_of_now(void) {
    const moda_region_header *header = moda_region();
    return (view){.ns_per_tick = ns_per_tick(header), .is_at_peak = is_at_peak()};
}

static uint64_t in_ns(uint64_t ticks, const view *now) {
    const double ns = (double)ticks * now->ns_per_tick;
    return ns < 0x1p64 ? (uint64_t)ns : UINT64_MAX;
}

/* What a forked child had from its parent at this site. */
static moda_site_inherited inherited_at(const moda_site *site) {
    static const moda_site_inherited nothing;
    const moda_inherited *inherited = moda_region_at(moda_load_acquire(&moda_region()->inherited));
    return inherited != NULL && site->id < inherited->count ? inherited->of[site->id] : nothing;
}

static void describe(const moda_site *site, const view *now, mod_alloc_call_site *to) {
    moda_site_counts c;
    moda_site_read(site, &c);
    const moda_site_inherited inherited = inherited_at(site);
    const int64_t live_fixed = (int64_t)(c.alloc_count - c.free_count);
    const int64_t live_bytes = (int64_t)(c.alloc_bytes - c.free_bytes);
    const int64_t live_requested = (int64_t)(c.alloc_requested - c.free_requested);
    *to = (mod_alloc_call_site){
        .frames = (const uintptr_t *)(const void *)site->frames,
        .frame_count = site->frame_count,
        .id = site->id,
        .walk_end = (mod_alloc_walk_end)site->walk_end,
        .alloc_samples = c.alloc_samples - inherited.samples,
        .free_samples = c.free_samples,
        .alloc_count = whole(c.alloc_count - inherited.count),
        .alloc_bytes = c.alloc_bytes - inherited.bytes,
        .alloc_requested_bytes = c.alloc_requested - inherited.requested,
        .free_count = whole(c.free_count),
        .free_bytes = c.free_bytes,
        .free_requested_bytes = c.free_requested,
        .live_count = whole(not_negative(live_fixed)),
        .live_bytes = not_negative(live_bytes),
        .live_requested_bytes = not_negative(live_requested),
        .at_peak_count = whole(not_negative(now->is_at_peak ? live_fixed : c.at_peak_count)),
        .at_peak_bytes = not_negative(now->is_at_peak ? live_bytes : c.at_peak_bytes),
        .at_peak_requested_bytes = not_negative(now->is_at_peak ? live_requested : c.at_peak_requested),
        .peak_count = whole(not_negative(c.peak_count)),
        .peak_bytes = not_negative(c.peak_bytes),
        .lifetime_count = whole(moda_site_ended(&c)),
        .lifetime_sum_ns = in_ns(moda_site_of_all_lives(&c, c.lifetime_sum), now),
        .lifetime_min_ns = c.lifetime_min != UINT64_MAX ? in_ns(c.lifetime_min, now) : 0,
        .lifetime_max_ns = in_ns(c.lifetime_max, now),
        .short_lived_count = whole(moda_site_of_all_lives(&c, c.short_lived_count)),
        .remote_free_count = whole(c.remote_free_count),
    };
}

void moda_site_describe(const moda_site *site, mod_alloc_call_site *description) {
    const view now = view_of_now();
    describe(site, &now, description);
}

/* ---- all of them ---- */

static bool has_sites(void) {
    return moda_region() != NULL && moda_load_acquire(&moda_region()->site_buckets) != 0;
}

static bool is_used(const moda_site *site) {
    moda_site_counts c;
    moda_site_read(site, &c);
    return c.alloc_samples != 0 || c.free_samples != 0;
}

size_t mod_alloc_call_sites(mod_alloc_call_site_visitor *visitor, void *context) {
    if (!has_sites()) {
        return 0;
    }
    if (moda_shard_mine() != NULL) {
        moda_shard_publish(moda_shard_mine()); /* if the peak is now, it is known to be */
    }
    const view now = view_of_now();
    mod_alloc_call_site description;
    size_t visited = 0;
    const moda_site *site = moda_region_at(moda_load_acquire(&moda_region()->site_list));
    for (; site != NULL; site = moda_region_at(site->next_in_list)) {
        describe(site, &now, &description);
        visited++;
        if (visitor(&description, context) != 0) {
            return visited;
        }
    }
    site = moda_site_overflow();
    if (is_used(site)) {
        describe(site, &now, &description);
        visited++;
        visitor(&description, context);
    }
    return visited;
}

/* The array lies behind this, in one mapping. */
typedef struct array_head {
    size_t bytes;
    size_t capacity;
    size_t count;
    size_t padding;
} array_head;

static int append(const mod_alloc_call_site *site, void *context) {
    array_head *head = context;
    mod_alloc_call_site *sites = (mod_alloc_call_site *)(void *)(head + 1);
    if (site->id < head->capacity) { /* or it was made since we counted */
        sites[head->count++] = *site;
    }
    return 0;
}

mod_alloc_call_site *mod_alloc_call_sites_get(size_t *count) {
    *count = 0;
    if (!has_sites()) {
        return NULL;
    }
    /* The list's own newest: site_count is raised after it has been linked. */
    const moda_site *newest = moda_region_at(moda_load_acquire(&moda_region()->site_list));
    const size_t capacity = (newest != NULL ? newest->id : 0) + (size_t)1;
    const size_t bytes = sizeof(array_head) + capacity * sizeof(mod_alloc_call_site);
    array_head *head = moda_os_map(bytes);
    if (head == NULL) {
        return NULL;
    }
    *head = (array_head){.bytes = bytes, .capacity = capacity};
    mod_alloc_call_sites(append, head);
    if (head->count == 0) {
        moda_os_unmap(head, bytes);
        return NULL;
    }
    *count = head->count;
    return (mod_alloc_call_site *)(void *)(head + 1);
}

void mod_alloc_call_sites_free(mod_alloc_call_site *sites) {
    if (sites != NULL) {
        array_head *head = (array_head *)(void *)sites - 1;
        moda_os_unmap(head, head->bytes);
    }
}

/* ---- what sampling did ---- */

static void add_shard(const moda_shard *shard, mod_alloc_sampling_stats *stats) {
    stats->samples += moda_load_relaxed(&shard->samples);
    stats->dropped += moda_load_relaxed(&shard->dropped);
    for (size_t i = 0; i < sizeof stats->walks / sizeof stats->walks[0]; i++) {
        stats->walks[i] += moda_load_relaxed(&shard->walks[i]);
    }
}

void mod_alloc_sampling(mod_alloc_sampling_stats *stats) {
    *stats = (mod_alloc_sampling_stats){0};
    const moda_region_header *header = moda_region();
    if (header == NULL) {
        return;
    }
    stats->sample_bytes = moda_load_relaxed(&header->sample_bytes);
    stats->sites = moda_load_relaxed(&header->site_count);
    stats->region_bytes_used = moda_load_relaxed(&header->used);
    stats->region_bytes_max = header->memory_max;
    const uint32_t count = moda_load_relaxed(&header->slot_count);
    for (uint32_t i = 0; i < count; i++) {
        const moda_shard *shard = moda_registry_slot(i);
        if (shard != NULL) {
            add_shard(shard, stats);
        }
    }
}

uint64_t mod_alloc_sites_dropped(void) {
    mod_alloc_sampling_stats stats;
    mod_alloc_sampling(&stats);
    return stats.dropped;
}
