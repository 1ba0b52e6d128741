/* SPDX-License-Identifier: MIT
 *
 * Shards are read one after the other while their owners go on. One thread plays all of them here: where a reader finds a
 * shard in the middle of a change it gives its core away, and there the test goes on as another thread would.
 */
#include "os/os.h"
#include "region/region.h"
#include "shard/peak.h"
#include "shard/shard.h"

#include <criterion/criterion.h>

#define BLOCK ((size_t)64 << 20)
enum { THREADS = 5, EARLIEST = 0, STOPS = 1, LATER = 3, READER = 4 };

static moda_shard *thread[THREADS];
static void (*meanwhile)(void);

moda_shard *moda_attach(void) {
    return moda_shard_of_thread;
}

/* In place of moda_os_yield. */
void __wrap_moda_os_yield(void);
void __wrap_moda_os_yield(void) {
    void (*const now)(void) = meanwhile;
    cr_assert(now != NULL);
    meanwhile = NULL;
    moda_shard *const interrupted = moda_shard_of_thread;
    now();
    moda_shard_of_thread = interrupted;
}

static void begin_thread(int i) {
    moda_shard_of_thread = NULL;
    moda_shard_of_thread = thread[i] = moda_registry_take();
    moda_shard_set_countdown(thread[i], thread[i]->countdown_set = MODA_PUBLISH_BYTES);
}

static void prepare_one(void) {
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    begin_thread(0);
}

static void prepare(void) {
    prepare_one();
    for (int i = 1; i < THREADS; i++) {
        begin_thread(i);
    }
}

/* A reader comes as far as this shard, and then others run. */
static void stop_at(int i, void (*others)(void)) {
    thread[i]->seq++;
    meanwhile = others;
}

static void go_on(int i) {
    thread[i]->seq++;
}

static void (*at_last)(void);
static int walks; /* over all shards, before the one that is stopped */

static void let_a_walk_end(void);

static void let_it_read_the_rest(void) {
    go_on(STOPS);
    stop_at(LATER, let_a_walk_end);
}

static void let_a_walk_end(void) {
    go_on(LATER);
    stop_at(STOPS, --walks > 0 ? let_it_read_the_rest : at_last);
}

/* The n-th time, from 0, that somebody walks over the shards and has read the earliest of them. */
static void stop_in_walk(int n, void (*others)(void)) {
    walks = n;
    at_last = others;
    stop_at(STOPS, n > 0 ? let_it_read_the_rest : others);
}

/* There may have been fewer walks. */
static void run_what_was_not_run(void) {
    while (meanwhile != NULL) {
        __wrap_moda_os_yield();
    }
}

static void allocate(int i) {
    moda_shard_of_thread = thread[i];
    moda_shard_count_malloc(thread[i], BLOCK, BLOCK);
}

static void release(int i) {
    moda_shard_of_thread = thread[i];
    moda_shard_count_free(thread[i], BLOCK);
}

static void hand_on(void) {
    go_on(STOPS);
    release(EARLIEST);
    allocate(LATER);
}

static mod_alloc_stats snapshot(void) {
    mod_alloc_stats stats;
    moda_shard_of_thread = thread[READER];
    mod_alloc_snapshot(&stats);
    return stats;
}

/* Which walk over the shards it is that others come into. */
enum { WALKS = 5 };

Test(shard_peaks, a_block_handed_on_during_a_snapshot_is_there_once, .init = prepare) {
    allocate(EARLIEST);
    stop_in_walk(0, hand_on);
    const mod_alloc_stats during = snapshot();
    cr_assert_eq(meanwhile, NULL);
    cr_assert_eq(during.current_bytes, BLOCK);
    cr_assert_eq(during.live_count, 1);
    cr_assert_eq(during.peak_bytes, BLOCK);
    cr_assert_eq(snapshot().peak_bytes, BLOCK);
}

Test(shard_peaks, what_a_snapshot_shows_as_the_peak_stays, .init = prepare) {
    allocate(EARLIEST);
    moda_shard_of_thread = thread[LATER];
    moda_shard_count_malloc(thread[LATER], 100000, 100000); /* which the thread has told nobody */
    const mod_alloc_stats high = snapshot();
    cr_assert_eq(high.peak_bytes, BLOCK + 100000);
    cr_assert_eq(high.peak_live_count, 2);
    release(EARLIEST);
    cr_assert_eq(snapshot().peak_bytes, high.peak_bytes);
}

Test(shard_peaks, a_block_handed_on_while_a_thread_looks_is_there_once, .init = prepare) {
    const size_t more = 1 << 20; /* worth a look */
    for (int walk = 0; walk < WALKS; walk++) {
        allocate(EARLIEST);
        stop_in_walk(walk, hand_on);
        moda_shard_of_thread = thread[READER];
        moda_shard_count_malloc(thread[READER], more, more);
        run_what_was_not_run();
        cr_assert_eq(snapshot().peak_bytes, BLOCK + more);
        release(LATER);
        moda_shard_of_thread = thread[READER];
        moda_shard_count_free(thread[READER], more);
        mod_alloc_reset();
    }
}

Test(shard_peaks, a_block_handed_on_while_a_window_opens_or_closes_is_there_once, .init = prepare) {
    for (int walk = 0; walk < 2 * WALKS; walk++) {
        mod_alloc_profiler window;
        mod_alloc_stats stats;
        allocate(EARLIEST);
        moda_shard_of_thread = thread[READER];
        if (walk < WALKS) {
            stop_in_walk(walk, hand_on);
        }
        mod_alloc_profiler_start(&window);
        if (walk >= WALKS) {
            stop_in_walk(walk - WALKS, hand_on);
        }
        mod_alloc_profiler_stop(&window, &stats);
        run_what_was_not_run();
        cr_assert_eq(stats.peak_bytes, BLOCK);
        cr_assert_eq(stats.peak_live_count, 1);
        cr_assert_eq(window.net_bytes, 0);
        cr_assert_eq(snapshot().peak_bytes, BLOCK);
        release(LATER);
    }
}

Test(shard_peaks, a_block_handed_on_during_a_reset_is_there_once, .init = prepare) {
    for (int walk = 0; walk < WALKS; walk++) {
        allocate(EARLIEST);
        stop_in_walk(walk, hand_on);
        moda_shard_of_thread = thread[READER];
        mod_alloc_reset();
        run_what_was_not_run();
        cr_assert_eq(snapshot().peak_bytes, BLOCK);
        release(LATER);
    }
}

/* ---- what was read before a window opened, or before a reset ---- */

static mod_alloc_profiler opened;

static void release_and_begin_anew(void) {
    go_on(STOPS);
    release(EARLIEST);
    moda_shard_of_thread = thread[LATER];
    mod_alloc_profiler_start(&opened);
    mod_alloc_reset();
}

Test(shard_peaks, a_late_offer_is_for_no_window_and_no_peak_that_began_since, .init = prepare) {
    allocate(EARLIEST);
    stop_in_walk(1, release_and_begin_anew);
    const mod_alloc_stats late = snapshot();
    cr_assert_eq(meanwhile, NULL);
    cr_assert_eq(late.current_bytes, BLOCK, "that was so when it had read all for the first time");
    cr_assert_eq(snapshot().peak_bytes, 0);
    cr_assert_eq(snapshot().peak_live_count, 0);
    mod_alloc_stats stats;
    mod_alloc_profiler_stop(&opened, &stats);
    cr_assert_eq(stats.peak_bytes, 0);
    cr_assert_eq(stats.peak_live_count, 0);
}

/* ---- the only thread's mark, read by one that has not allocated yet ---- */

static void no_longer_alone(void) {
    go_on(EARLIEST);
    begin_thread(STOPS);
    release(STOPS); /* what the first one has */
    allocate(EARLIEST);
}

Test(shard_peaks, a_mark_is_the_process_s_only_while_its_thread_is_alone, .init = prepare_one) {
    moda_totals totals;
    allocate(EARLIEST);
    moda_shard_of_thread = NULL;
    moda_totals_read(&totals);
    stop_at(EARLIEST, no_longer_alone);
    cr_assert_eq(moda_peak_now(&totals).bytes, (int64_t)BLOCK);
    cr_assert_eq(meanwhile, NULL);
}

static void end_the_change(void) {
    thread[EARLIEST]->free_budget += (int64_t)BLOCK;
    go_on(EARLIEST);
}

Test(shard_peaks, a_mark_in_the_middle_of_a_change_is_read_again, .init = prepare_one) {
    moda_totals totals;
    allocate(EARLIEST);
    moda_shard_of_thread = NULL;
    moda_totals_read(&totals);
    stop_at(EARLIEST, end_the_change);
    thread[EARLIEST]->free_budget -= (int64_t)BLOCK; /* one word is changed, the other not yet */
    cr_assert_eq(moda_peak_now(&totals).bytes, (int64_t)BLOCK);
    cr_assert_eq(meanwhile, NULL);
}
