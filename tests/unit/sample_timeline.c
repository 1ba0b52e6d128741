/* SPDX-License-Identifier: MIT
 *
 * Points at even spacing, whose record never runs over; in a forked child it begins as the first process's did.
 */
#include "sample/timeline.h"

#include "region/region.h"
#include "shard/shard.h"

#include <criterion/criterion.h>

moda_shard *moda_attach(void) {
    return moda_shard_of_thread;
}

enum { INTERVAL = 1000 };

static moda_timeline *begin(void) {
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    moda_timeline_create(INTERVAL);
    return moda_region_at(moda_region()->timeline);
}

static uint64_t fill(uint64_t now) {
    for (int i = 0; i < 5 * (int)MODA_TIMELINE_POINTS; i++) {
        moda_timeline_note(now);
        now = moda_timeline_next;
    }
    return now;
}

Test(sample_timeline, it_thins_out_where_it_is_full) {
    moda_timeline *timeline = begin();
    fill(0);
    cr_assert_eq(timeline->seq % 2, 0);
    cr_assert_leq(timeline->count, MODA_TIMELINE_POINTS);
    cr_assert_gt(timeline->count, MODA_TIMELINE_POINTS / 2);
    for (uint32_t i = 1; i < timeline->count; i++) {
        cr_assert_leq(timeline->point[i].ticks - timeline->point[i - 1].ticks, timeline->interval_ticks);
    }
}

Test(sample_timeline, a_child_begins_at_the_first_spacing) {
    moda_timeline *timeline = begin();
    const uint64_t now = fill(0);
    cr_assert_gt(timeline->interval_ticks, INTERVAL);
    moda_timeline_fork_child();
    cr_assert_eq(timeline->count, 0);
    cr_assert_leq(moda_timeline_next, now);
    moda_timeline_note(now);
    cr_assert_eq(timeline->count, 1);
    cr_assert_eq(moda_timeline_next, now + INTERVAL);
}
