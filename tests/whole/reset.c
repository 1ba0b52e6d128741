/* SPDX-License-Identifier: MIT
 *
 * reset.c - mod_alloc_reset: counts begin anew, what is live stays true, nothing ever wraps, also while
 * other threads allocate.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "whole.h"

static void alone(void) {
    void *held[100];
    uint64_t bytes = 0;
    for (size_t i = 0; i < 100; i++) {
        held[i] = malloc(i * 37);
        bytes += malloc_usable_size(held[i]);
    }
    const mod_alloc_stats before = whole_now();
    mod_alloc_reset();
    mod_alloc_stats now = whole_now();
    CHECK_EQ(now.alloc_count, 0, "after reset");
    CHECK_EQ(now.free_count, 0, "after reset");
    CHECK_EQ(now.total_bytes, 0, "after reset");
    CHECK_EQ(now.requested_bytes, 0, "after reset");
    CHECK_EQ(now.current_bytes, before.current_bytes, "what is live stays true");
    CHECK_EQ(now.live_count, before.live_count, "what is live stays true");
    CHECK_EQ(now.peak_bytes, now.current_bytes, "the peak is the current bytes");
    CHECK_EQ(now.peak_live_count, now.live_count, "the peak is now");
    for (size_t i = 0; i < 100; i++) {
        free(held[i]);
    }
    now = whole_now();
    CHECK_EQ(now.alloc_count, 0, "blocks older than the reset are freed");
    CHECK_EQ(now.free_count, 100, "blocks older than the reset are freed");
    CHECK_EQ(now.total_bytes, 0, "blocks older than the reset are freed");
    CHECK_EQ(now.current_bytes, before.current_bytes - bytes, "blocks older than the reset are freed");
    CHECK_EQ(now.live_count, before.live_count - 100, "blocks older than the reset are freed");
    CHECK_EQ(now.peak_bytes, before.current_bytes, "the peak is that of the reset");
    free(malloc(10));
    mod_alloc_reset();
    mod_alloc_reset();
    now = whole_now();
    CHECK_EQ(now.free_count, 0, "reset twice");
    mod_alloc_stats thread;
    mod_alloc_thread_snapshot(&thread);
    CHECK(thread.alloc_count < UINT64_MAX / 2 && thread.current_bytes < UINT64_MAX / 2,
          "a thread's counts after a reset of the process: %" PRIu64, thread.alloc_count);
}

#define THREADS 3
static int stop;
static uint64_t made[THREADS];
static void *held_by[THREADS][50];
static uint64_t held_bytes[THREADS];

static void *churn(void *argument) {
    const size_t id = (size_t)(uintptr_t)argument;
    uint64_t state = id;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        const size_t i = whole_random(&state) % 50;
        if (held_by[id][i] != NULL) {
            held_bytes[id] -= malloc_usable_size(held_by[id][i]);
        }
        free(held_by[id][i]);
        held_by[id][i] = malloc(whole_random(&state) % 3000);
        held_bytes[id] += malloc_usable_size(held_by[id][i]);
        __atomic_store_n(&made[id], made[id] + 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void none_has_wrapped(const mod_alloc_stats *stats) {
    const uint64_t most = UINT64_C(1) << 50;
    CHECK(stats->alloc_count < most, "alloc_count has wrapped: %" PRIu64, stats->alloc_count);
    CHECK(stats->free_count < most, "free_count has wrapped: %" PRIu64, stats->free_count);
    CHECK(stats->total_bytes < most, "total_bytes has wrapped: %" PRIu64, stats->total_bytes);
    CHECK(stats->requested_bytes < most, "requested_bytes has wrapped: %" PRIu64, stats->requested_bytes);
    CHECK(stats->current_bytes < 100u << 20, "current_bytes has wrapped: %" PRIu64, stats->current_bytes);
    CHECK(stats->live_count < 1000000, "live_count has wrapped: %" PRIu64, stats->live_count);
    CHECK(stats->peak_bytes < 100u << 20, "peak_bytes has wrapped: %" PRIu64, stats->peak_bytes);
}

static bool all_have_worked(void) {
    for (int i = 0; i < THREADS; i++) {
        if (__atomic_load_n(&made[i], __ATOMIC_RELAXED) < 1000) {
            return false;
        }
    }
    return true;
}

static void while_others_allocate(void) {
    pthread_t thread[THREADS];
    const mod_alloc_stats before = whole_now();
    for (size_t i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)i) == 0, "no thread");
    }
    for (int i = 0; i < 20000 || !all_have_worked(); i++) {
        mod_alloc_reset();
        const mod_alloc_stats now = whole_now();
        none_has_wrapped(&now);
        mod_alloc_stats own;
        mod_alloc_thread_snapshot(&own);
        none_has_wrapped(&own);
        if (whole_failures > 10) {
            break;
        }
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    uint64_t bytes = 0, blocks = 0, all = 0;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        bytes += held_bytes[i];
        all += made[i];
        for (int k = 0; k < 50; k++) {
            blocks += held_by[i][k] != NULL;
        }
    }
    CHECK(all >= 1000 * THREADS, "the other threads had no turn");
    const mod_alloc_stats after = whole_now();
    for (size_t i = 0; i < THREADS; i++) {
        for (int k = 0; k < 50; k++) {
            free(held_by[i][k]);
        }
    }
    CHECK_CHANGE("what the threads left", after, .free_count = (int64_t)blocks,
                 .current_bytes = -(int64_t)bytes, .live_count = -(int64_t)blocks);
    const mod_alloc_stats end = whole_now();
    /* pthread_create keeps a few blocks of its own for threads that may come */
    CHECK(end.current_bytes - before.current_bytes < 16384, "current grew by %" PRIu64,
          end.current_bytes - before.current_bytes);
    CHECK(end.live_count - before.live_count <= 3 * THREADS, "live grew by %" PRIu64,
          end.live_count - before.live_count);
}

int main(void) {
    whole_begin();
    alone();
    while_others_allocate();
    alone();
    return whole_end();
}
