/* SPDX-License-Identifier: MIT
 *
 * timeline.c - see timeline.h.
 */
#include "sample/timeline.h"

#include "region/region.h"
#include "shard/shard.h"

uint64_t moda_timeline_next = UINT64_MAX;

static moda_timeline *timeline;
static uint64_t first_interval;
static bool is_busy;

void moda_timeline_create(uint64_t ticks_per_ms) {
    timeline = moda_region_alloc(sizeof *timeline);
    if (timeline) {
        timeline->interval_ticks = first_interval = ticks_per_ms ? ticks_per_ms : 1;
        moda_store_release(&moda_region()->timeline, moda_region_ref(timeline));
        moda_store_relaxed(&moda_timeline_next, 0);
    }
}

static void seq_step(void) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
    moda_store_relaxed(&timeline->seq, timeline->seq + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

/* Every second point stays. */
static void thin_out(void) {
    for (uint32_t i = 0; i < MODA_TIMELINE_POINTS / 2; i++) {
        timeline->point[i] = timeline->point[2 * i];
    }
    timeline->count = MODA_TIMELINE_POINTS / 2;
    timeline->interval_ticks *= 2;
}

void moda_timeline_note(uint64_t now) {
    if (__atomic_test_and_set(&is_busy, __ATOMIC_ACQUIRE)) {
        return;
    }
    moda_totals totals;
    moda_totals_read(&totals);
    seq_step();
    if (timeline->count == MODA_TIMELINE_POINTS) {
        thin_out();
    }
    timeline->point[timeline->count++] = (moda_timeline_point){
        .ticks = now,
        .current_bytes = totals.balance > 0 ? (uint64_t)totals.balance : 0,
        .live_count = totals.live > 0 ? (uint64_t)totals.live : 0,
        .total_bytes = totals.counts.total_bytes,
        .alloc_count = totals.counts.alloc_count,
        .resident_bytes = moda_load_relaxed(&moda_region()->resident_bytes),
    };
    seq_step();
    moda_store_relaxed(&moda_timeline_next, now + timeline->interval_ticks);
    __atomic_clear(&is_busy, __ATOMIC_RELEASE);
}

void moda_timeline_fork_child(void) {
    if (timeline) {
        timeline->seq += timeline->seq & 1;
        timeline->count = 0;
        timeline->interval_ticks =
            first_interval; /* of a parent that has run for hours it is minutes by now */
        __atomic_clear(&is_busy, __ATOMIC_RELEASE);
        moda_store_relaxed(&moda_timeline_next, 0);
    }
}
