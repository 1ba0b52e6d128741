/* SPDX-License-Identifier: MIT
 *
 * The public view: each site once, in whole blocks, bytes and nanoseconds.
 */
#include "site_rooms.h"

#include "mod_alloc.h"
#include "site/visit.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static moda_shard *shard;

/* An allocation as the slow path makes it: counters, then the site. */
static void allocate(uint64_t n, uint64_t weight_fixed, uint64_t size) {
    const moda_sample sample = {.weight_fixed = weight_fixed, .size = size, .requested = size - 1};
    moda_shard_count_malloc(shard, size, size - 1);
    moda_site *site = intern_stack(shard, NULL, n);
    moda_site_note_sample(shard, MOD_ALLOC_WALK_COMPLETE, &sample);
    moda_site_count_alloc(shard, site, &sample);
}

static void release(uint64_t n, uint64_t weight_fixed, uint64_t size, uint64_t birth) {
    const moda_sample sample = {.weight_fixed = weight_fixed, .size = size, .requested = size - 1};
    const moda_sample_end end = {.born = birth, .now_ticks = moda_ticks(), .is_remote = true};
    moda_shard_note_peak(shard);
    moda_site_count_free(shard, intern_stack(shard, NULL, n), &sample, &end);
    moda_shard_count_free(shard, size);
}

static void prepare(void) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    shard = moda_registry_take();
    moda_shard_of_thread = shard;
}

Test(site_visit, nothing_where_there_is_no_region) {
    size_t count = 7;
    cr_assert_null(mod_alloc_call_sites_get(&count));
    cr_assert_eq(count, 0);
    cr_assert_eq(mod_alloc_call_sites(NULL, NULL), 0);
    cr_assert_eq(mod_alloc_sites_dropped(), 0);
    mod_alloc_sampling_stats stats;
    mod_alloc_sampling(&stats);
    cr_assert_eq(stats.region_bytes_max, 0);
    mod_alloc_call_sites_free(NULL);
}

static const mod_alloc_call_site *by_id(const mod_alloc_call_site *sites, size_t count, uint32_t id) {
    for (size_t i = 0; i < count; i++) {
        if (sites[i].id == id) {
            return &sites[i];
        }
    }
    return NULL;
}

Test(site_visit, figures_are_whole_blocks_bytes_and_nanoseconds) {
    prepare();
    const uint64_t birth = moda_ticks();
    allocate(0, MODA_COUNT_ONE, 64);
    allocate(0, MODA_COUNT_ONE, 64);
    allocate(1, 10 * MODA_COUNT_ONE + MODA_COUNT_ONE / 2, 100);
    usleep(20000);
    release(0, MODA_COUNT_ONE, 64, birth);
    size_t count;
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(count, 2);
    const mod_alloc_call_site *site = by_id(sites, count, 1);
    uint64_t frames[FRAMES_MAX];
    cr_assert_eq(site->frame_count, make_stack(0, frames));
    cr_assert_arr_eq(site->frames, frames, site->frame_count * sizeof frames[0]);
    cr_assert_eq(site->alloc_samples, 2);
    cr_assert_eq(site->alloc_count, 2);
    cr_assert_eq(site->alloc_bytes, 128);
    cr_assert_eq(site->alloc_requested_bytes, 126);
    cr_assert_eq(site->free_count, 1);
    cr_assert_eq(site->free_requested_bytes, 63);
    cr_assert_eq(site->live_count, 1);
    cr_assert_eq(site->live_bytes, 64);
    cr_assert_eq(site->live_requested_bytes, 63);
    cr_assert_eq(site->at_peak_count, 2);
    cr_assert_eq(site->at_peak_bytes, 128);
    cr_assert_eq(site->at_peak_requested_bytes, 126);
    cr_assert_eq(site->peak_count, 2);
    cr_assert_eq(site->peak_bytes, 128);
    cr_assert_eq(site->lifetime_count, 1);
    cr_assert_geq(site->lifetime_sum_ns, 20000000);
    cr_assert_leq(site->lifetime_sum_ns, 20 * UINT64_C(1000000000));
    cr_assert_eq(site->lifetime_min_ns, site->lifetime_sum_ns);
    cr_assert_eq(site->lifetime_max_ns, site->lifetime_sum_ns);
    cr_assert_eq(site->short_lived_count, 0);
    cr_assert_eq(site->remote_free_count, 1);
    site = by_id(sites, count, 2);
    cr_assert_eq(site->alloc_count, 11);
    cr_assert_eq(site->alloc_bytes, 1050);
    cr_assert_eq(site->lifetime_min_ns, 0);
    mod_alloc_call_sites_free(sites);
}

Test(site_visit, a_life_below_the_threshold_is_short) {
    prepare();
    usleep(2000);
    allocate(0, MODA_COUNT_ONE, 64);
    release(0, MODA_COUNT_ONE, 64, moda_ticks());
    size_t count;
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(sites[0].short_lived_count, 1);
    mod_alloc_call_sites_free(sites);
}

Test(site_visit, the_peak_may_be_now) {
    prepare();
    allocate(0, MODA_COUNT_ONE, 64);
    release(0, MODA_COUNT_ONE, 64, 0);
    allocate(1, MODA_COUNT_ONE, 100);
    size_t count;
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(by_id(sites, count, 1)->at_peak_bytes, 0);
    cr_assert_eq(by_id(sites, count, 2)->at_peak_bytes, 100);
    mod_alloc_call_sites_free(sites);
    release(1, MODA_COUNT_ONE, 100, 0);
    allocate(0, MODA_COUNT_ONE, 64);
    sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(by_id(sites, count, 1)->at_peak_bytes, 0);
    cr_assert_eq(by_id(sites, count, 2)->at_peak_bytes, 100);
    mod_alloc_call_sites_free(sites);
}

static int stop_after(const mod_alloc_call_site *site, void *left) {
    (void)site;
    return --*(int *)left == 0;
}

static int mark_id(const mod_alloc_call_site *site, void *seen) {
    ((unsigned char *)seen)[site->id]++;
    allocate(site->id + 1000, MODA_COUNT_ONE, 16); /* a visitor may allocate */
    return 0;
}

Test(site_visit, each_site_is_visited_once) {
    prepare();
    for (uint64_t n = 0; n < 500; n++) {
        allocate(n, MODA_COUNT_ONE, 16);
    }
    unsigned char seen[2000] = {0};
    cr_assert_eq(mod_alloc_call_sites(mark_id, seen), 500);
    for (int id = 1; id <= 500; id++) {
        cr_assert_eq(seen[id], 1);
    }
    int left = 10;
    cr_assert_eq(mod_alloc_call_sites(stop_after, &left), 10);
    size_t count;
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(count, 1000);
    mod_alloc_call_sites_free(sites);
}

Test(site_visit, the_array_has_a_site_that_is_linked_but_not_yet_counted) {
    prepare();
    allocate(0, MODA_COUNT_ONE, 16);
    allocate(1, MODA_COUNT_ONE, 16);
    moda_region()->site_count = 1;
    size_t count;
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(count, 2);
    mod_alloc_call_sites_free(sites);
}

Test(site_visit, sampling_says_what_it_did) {
    prepare();
    moda_region()->sample_bytes = 4096;
    allocate(0, MODA_COUNT_ONE, 64);
    allocate(1, MODA_COUNT_ONE, 64);
    shard->dropped = 3;
    shard->walks[MOD_ALLOC_WALK_CUT] = 2;
    mod_alloc_sampling_stats stats;
    mod_alloc_sampling(&stats);
    cr_assert_eq(stats.sample_bytes, 4096);
    cr_assert_eq(stats.samples, 2);
    cr_assert_eq(stats.sites, 2);
    cr_assert_eq(stats.dropped, 3);
    cr_assert_eq(stats.walks[MOD_ALLOC_WALK_COMPLETE], 2);
    cr_assert_eq(stats.walks[MOD_ALLOC_WALK_CUT], 2);
    cr_assert_eq(stats.region_bytes_used, moda_region()->used);
    cr_assert_eq(stats.region_bytes_max, 16 * MIB);
    cr_assert_eq(mod_alloc_sites_dropped(), 3);
}

Test(site_visit, the_overflow_site_is_shown_once_it_has_something) {
    prepare();
    size_t count;
    allocate(0, MODA_COUNT_ONE, 64);
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(count, 1);
    mod_alloc_call_sites_free(sites);
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 5};
    moda_site_count_alloc(shard, moda_site_overflow(), &sample);
    sites = mod_alloc_call_sites_get(&count);
    cr_assert_eq(count, 2);
    cr_assert_eq(by_id(sites, count, 0)->alloc_bytes, 5);
    cr_assert_eq(by_id(sites, count, 0)->frame_count, 0);
    cr_assert_eq(by_id(sites, count, 0)->walk_end, MOD_ALLOC_WALK_NONE);
    mod_alloc_call_sites_free(sites);
}
