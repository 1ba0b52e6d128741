/* SPDX-License-Identifier: MIT
 *
 * read_sites.c - call stacks and what was counted there: found, checked, and turned into values.
 *
 * read.c calls, after the threads. Memory is the profile's arena; the list of their offsets is freed at the end.
 *
 * Laws
 *   1. sites overlap neither one another nor the end of their part.
 *   2. no value is negative; of a sampled profile each is rounded once, here, to a whole number.
 *   3. what a child inherited at its fork is no allocation of its own, but is live.
 */
#include "report/read.h"

#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

static int64_t not_negative(int64_t value) {
    return value > 0 ? value : 0;
}

moda_at_peak moda_read_at_peak(const moda_site_counts *c, uint64_t epoch) {
    if (c->at_peak_epoch == epoch)
        return (moda_at_peak){
            .count = c->at_peak_count, .bytes = c->at_peak_bytes, .requested = c->at_peak_requested};
    return (moda_at_peak){
        .count = moda_read_minus(c->alloc_count, c->free_count),
        .bytes = moda_read_minus(c->alloc_bytes, c->free_bytes),
        .requested = moda_read_minus(c->alloc_requested, c->free_requested),
    };
}

/* Variance of an estimate that n samples add up to `sum`, standing for `count` allocations. A sample of
 * probability p = 1/w contributes w x, and the unbiased estimate of the variance is the sum of
 * (1 - p) (w x)^2 (Horvitz and Thompson 1952). Of a site only n, the sum and the mean w = count / n are known,
 * so each sample is taken as the mean one: sum^2 / n * (1 - n / count). It is 0 where all were sampled, and
 * too low where one site mixes very different sizes. */
static double variance(double sum, double samples, double count) {
    if (samples <= 0 || count <= samples)
        return 0;
    return sum * sum / samples * (1 - samples / count);
}

/* Deltas of several threads are added in an order in which they did not happen, and can hide a peak; but it was
 * never below what was live at the process's peak, nor below what is live now. */
static void take_own_peak(const moda_site_counts *c, moda_at_peak peak, int64_t *of) {
    int64_t bytes = not_negative(c->peak_bytes), count = c->peak_count;
    if (peak.bytes > bytes) {
        bytes = peak.bytes;
        count = peak.count;
    }
    if (of[MODA_VALUE_LIVE_BYTES] > bytes) {
        bytes = of[MODA_VALUE_LIVE_BYTES];
        count = moda_read_minus(c->alloc_count, c->free_count);
    }
    of[MODA_VALUE_OWN_PEAK_BYTES] = bytes;
    of[MODA_VALUE_OWN_PEAK_COUNT] = moda_read_blocks((uint64_t)not_negative(count));
}

/* What a forked child had of a site's blocks at the fork: never more than was counted. */
static moda_site_inherited inherited_at(const moda_reader *r, const moda_site *site) {
    static const moda_site_inherited nothing;
    if (r->inherited == NULL || site->id >= r->inherited->count)
        return nothing;
    moda_site_inherited had = r->inherited->of[site->id];
    const moda_site_counts *const c = &site->counts;
    had.samples = had.samples < c->alloc_samples ? had.samples : c->alloc_samples;
    had.count = had.count < c->alloc_count ? had.count : c->alloc_count;
    had.bytes = had.bytes < c->alloc_bytes ? had.bytes : c->alloc_bytes;
    had.requested = had.requested < c->alloc_requested ? had.requested : c->alloc_requested;
    return had;
}

static void convert_counts(const moda_reader *r, const moda_site_counts *c, const moda_site_inherited *had,
                           moda_values *v) {
    moda_values_clear(v);
    int64_t *const of = v->of;
    of[MODA_VALUE_ALLOCATED_BYTES] = moda_read_as_int(c->alloc_bytes - had->bytes);
    of[MODA_VALUE_ALLOCATED_COUNT] = moda_read_blocks(c->alloc_count - had->count);
    of[MODA_VALUE_REQUESTED_BYTES] = moda_read_as_int(c->alloc_requested - had->requested);
    of[MODA_VALUE_WASTE_BYTES] =
        not_negative(of[MODA_VALUE_ALLOCATED_BYTES] - of[MODA_VALUE_REQUESTED_BYTES]);
    of[MODA_VALUE_FREED_BYTES] = moda_read_as_int(c->free_bytes);
    of[MODA_VALUE_FREED_COUNT] = moda_read_blocks(c->free_count);
    of[MODA_VALUE_LIVE_BYTES] = not_negative(moda_read_minus(c->alloc_bytes, c->free_bytes));
    of[MODA_VALUE_LIVE_COUNT] =
        moda_read_blocks((uint64_t)not_negative(moda_read_minus(c->alloc_count, c->free_count)));
    of[MODA_VALUE_LIVE_REQUESTED_BYTES] =
        not_negative(moda_read_minus(c->alloc_requested, c->free_requested));
    of[MODA_VALUE_LIVE_WASTE_BYTES] =
        not_negative(of[MODA_VALUE_LIVE_BYTES] - of[MODA_VALUE_LIVE_REQUESTED_BYTES]);
    const moda_at_peak peak = moda_read_at_peak(c, r->header.peak_epoch);
    of[MODA_VALUE_AT_PEAK_BYTES] = not_negative(peak.bytes);
    of[MODA_VALUE_AT_PEAK_COUNT] = moda_read_blocks((uint64_t)not_negative(peak.count));
    of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES] = not_negative(peak.requested);
    take_own_peak(c, peak, of);
    of[MODA_VALUE_LIFETIME_COUNT] = moda_read_blocks(moda_site_ended(c));
    of[MODA_VALUE_LIFETIME_NS] =
        moda_read_as_int(moda_read_ticks_to_ns(r, moda_site_of_all_lives(c, c->lifetime_sum)));
    if (c->lifetime_count != 0) {
        of[MODA_VALUE_LIFETIME_MIN_NS] = moda_read_as_int(moda_read_ticks_to_ns(r, c->lifetime_min));
        of[MODA_VALUE_LIFETIME_MAX_NS] = moda_read_as_int(moda_read_ticks_to_ns(r, c->lifetime_max));
    }
    of[MODA_VALUE_TEMPORARY_COUNT] = moda_read_blocks(moda_site_of_all_lives(c, c->short_lived_count));
    of[MODA_VALUE_REMOTE_FREE_COUNT] = moda_read_blocks(c->remote_free_count);
    of[MODA_VALUE_SAMPLES] = moda_read_as_int(c->alloc_samples - had->samples);
    of[MODA_VALUE_FREED_SAMPLES] = moda_read_as_int(c->free_samples);

    const double samples = (double)c->alloc_samples, count = (double)c->alloc_count / MODA_COUNT_ONE;
    const double live = (double)not_negative(moda_read_minus(c->alloc_samples, c->free_samples));
    const double live_count =
        (double)not_negative(moda_read_minus(c->alloc_count, c->free_count)) / MODA_COUNT_ONE;
    /* How many samples were live at the peak is not kept: as many as the mean weight says. */
    const double peak_count = (double)not_negative(peak.count) / MODA_COUNT_ONE;
    const double peak_samples = count > 0 ? peak_count * samples / count : 0;
    const double own_samples = (double)of[MODA_VALUE_SAMPLES];
    const double own_count = (double)(c->alloc_count - had->count) / MODA_COUNT_ONE;
    v->variance[MODA_VARIANCE_ALLOCATED_BYTES] =
        variance((double)of[MODA_VALUE_ALLOCATED_BYTES], own_samples, own_count);
    v->variance[MODA_VARIANCE_ALLOCATED_COUNT] = variance(own_count, own_samples, own_count);
    v->variance[MODA_VARIANCE_LIVE_BYTES] = variance((double)of[MODA_VALUE_LIVE_BYTES], live, live_count);
    v->variance[MODA_VARIANCE_LIVE_COUNT] = variance(live_count, live, live_count);
    v->variance[MODA_VARIANCE_AT_PEAK_BYTES] =
        variance((double)of[MODA_VALUE_AT_PEAK_BYTES], peak_samples, peak_count);
    v->variance[MODA_VARIANCE_AT_PEAK_COUNT] = variance(peak_count, peak_samples, peak_count);
}

/* The figures of a site of a merged profile that its counts cannot say. */
static void take_sums(const moda_site_sums *sums, moda_values *v) {
    v->of[MODA_VALUE_WASTE_BYTES] = not_negative(sums->waste_bytes);
    v->of[MODA_VALUE_LIVE_BYTES] = not_negative(sums->live_bytes);
    v->of[MODA_VALUE_LIVE_COUNT] = not_negative(sums->live_count);
    v->of[MODA_VALUE_LIVE_REQUESTED_BYTES] = not_negative(sums->live_requested);
    v->of[MODA_VALUE_LIVE_WASTE_BYTES] = not_negative(sums->live_waste);
    for (int i = 0; i < MODA_VARIANCES; i++) {
        double variance;
        memcpy(&variance, &sums->variance[i], sizeof variance);
        v->variance[i] = variance >= 0 && variance < 1e300 ? variance : 0; /* no NaN */
    }
}

static bool convert_site(moda_reader *r, const moda_site *site, moda_profile_site *to) {
    *to = (moda_profile_site){
        .address_count = site->frame_count,
        .id = site->id,
        .thread = moda_read_thread_of_slot(r->profile, site->first_slot),
        .generation = site->generation,
        .walk_end = site->walk_end,
        .guessed = site->guessed,
    };
    uint64_t *const addresses = moda_arena_alloc(r->arena, (size_t)site->frame_count * 8 + 1);
    if (addresses == NULL)
        return moda_read_no_memory(r);
    memcpy(addresses, site->frames, (size_t)site->frame_count * 8);
    to->addresses = addresses;
    const moda_site_inherited had = inherited_at(r, site);
    to->inherited_bytes = moda_read_as_int(had.bytes);
    to->inherited_count = moda_read_blocks(had.count);
    to->inherited_requested_bytes = moda_read_as_int(had.requested);
    convert_counts(r, &site->counts, &had, &to->values);
    if (r->header.merged != 0)
        take_sums((const moda_site_sums *)(const void *)&site->frames[site->frame_count], &to->values);
    moda_values_add(&r->profile->site_totals, &to->values);
    return true;
}

/* ---- the list ---- */

static bool check_site(moda_reader *r, const moda_site *site) {
    const uint64_t offset = moda_read_offset_of(r, site);
    const size_t behind = r->header.merged != 0 ? sizeof(moda_site_sums) / sizeof site->frames[0] : 0;
    if (site->frame_count > MODA_FRAMES_MAX
        || site->frame_count + behind > (r->size - offset - sizeof *site) / sizeof site->frames[0])
        return moda_read_bad(r, offset + offsetof(moda_site, frame_count), "number of frames",
                             site->frame_count, "at most 512 and inside the profile");
    if (site->walk_end > MOD_ALLOC_WALK_NONE)
        return moda_read_bad(r, offset + offsetof(moda_site, walk_end), "how the walk ended", site->walk_end,
                             "0 to 5");
    return true;
}

int moda_read_by_offset(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool take_site(moda_reader *r, uint64_t holder, moda_ref ref, uint64_t *offset) {
    moda_site *const site = moda_read_record(r, holder, ref, sizeof *site, "site");
    if (site == NULL || !check_site(r, site))
        return false;
    moda_read_settle(r, &site->counts_lock, sizeof *site - offsetof(moda_site, counts_lock),
                     &site->counts_lock);
    *offset = moda_read_offset_of(r, site);
    return true;
}

static bool collect_sites(moda_reader *r, uint64_t **offsets, size_t *count) {
    const uint64_t most = r->size / sizeof(moda_site) + 2;
    size_t room = r->header.site_count < most ? r->header.site_count + 2u : 1024;
    uint64_t *list = malloc(room * sizeof *list);
    size_t n = 0;
    bool is_fine = list != NULL;
    if (is_fine && r->header.overflow_site != 0)
        is_fine =
            take_site(r, offsetof(moda_region_header, overflow_site), r->header.overflow_site, &list[n++]);
    uint64_t holder = offsetof(moda_region_header, site_list);
    for (moda_ref ref = r->header.site_list; is_fine && ref != 0;) {
        if (n > most)
            is_fine = moda_read_bad(r, holder, "length of the list of sites", n, "no cycle");
        if (is_fine && n == room) {
            uint64_t *const grown = realloc(list, 2 * room * sizeof *list);
            room *= 2;
            if (grown == NULL)
                is_fine = moda_read_no_memory(r);
            else
                list = grown;
        }
        if (!is_fine || !take_site(r, holder, ref, &list[n])) {
            is_fine = false;
            break;
        }
        holder = list[n];
        ref = ((const moda_site *)(const void *)(r->copy + list[n]))->next_in_list;
        if (ref != 0 && ref == r->header.overflow_site)
            ref = 0; /* it may end the list */
        n++;
    }
    if (!is_fine && list == NULL)
        moda_read_no_memory(r);
    *offsets = list;
    *count = n;
    return is_fine;
}

static bool find_inherited(moda_reader *r) {
    const uint64_t holder = offsetof(moda_region_header, inherited);
    r->inherited = NULL;
    if (r->header.inherited == 0 || moda_read_is_newer(r, r->header.inherited))
        return true;
    const moda_inherited *const found =
        moda_read_record(r, holder, r->header.inherited, sizeof *found, "list of what was inherited");
    if (found == NULL)
        return false;
    const uint64_t offset = moda_read_offset_of(r, found);
    if (found->count > (r->size - offset - sizeof *found) / sizeof found->of[0])
        return moda_read_bad(r, offset, "number of sites with inherited blocks", found->count,
                             "as many as fit before the end");
    r->inherited = found;
    return true;
}

/* Into the order of offsets. */
static bool sort_sites(moda_reader *r, uint64_t *offsets, size_t count) {
    if (count > 1)
        qsort(offsets, count, sizeof *offsets, moda_read_by_offset);
    for (size_t i = 1; i < count; i++)
        if (offsets[i] < offsets[i - 1] + sizeof(moda_site))
            return moda_read_bad(r, offsets[i], "the place of a site", offsets[i],
                                 "one that overlaps no other site");
    return true;
}

static bool convert_sites(moda_reader *r, const uint64_t *offsets, size_t count) {
    moda_profile_site *const sites = moda_arena_alloc(r->arena, (count + 1) * sizeof *sites);
    if (sites == NULL)
        return moda_read_no_memory(r);
    moda_values_clear(&r->profile->site_totals);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const moda_site *const site = (const moda_site *)(const void *)(r->copy + offsets[i]);
        /* An overflow site that was never needed is no site. */
        if (site->id == 0 && site->counts.alloc_samples == 0 && site->counts.free_samples == 0)
            continue;
        if (!convert_site(r, site, &sites[kept++]))
            return false;
    }
    r->profile->sites = sites;
    r->profile->site_count = kept;
    return true;
}

bool moda_read_sites(moda_reader *r) {
    uint64_t *offsets = NULL;
    size_t count = 0;
    const bool is_fine = find_inherited(r) && collect_sites(r, &offsets, &count)
                         && sort_sites(r, offsets, count) && moda_read_add_deltas(r, offsets, count)
                         && convert_sites(r, offsets, count);
    free(offsets);
    return is_fine;
}
