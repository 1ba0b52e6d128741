/* SPDX-License-Identifier: MIT
 *
 * peaks.c - threads hand one large block's room on to each other, while another one looks: by snapshots, by windows, and
 * by resets. No more than one such block is ever there, and no figure may say otherwise.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "whole.h"

#define THREADS 4
#define TURNS 300 /* with one core the looks are interrupted about as often */
#define SIZE ((size_t)8 << 20)

static pthread_barrier_t barrier;
static int turn;
static uint64_t highest; /* all that is ever live */

static void *take_turns(void *argument) {
    const int id = (int)(intptr_t)argument;
    free(malloc(100)); /* it has all that a thread gets */
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    int now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
    while (now < TURNS) {
        if (now % THREADS == id) {
            void *p = malloc(SIZE);
            NEED(p != NULL, "no block of %zu bytes", SIZE);
            sched_yield(); /* somebody looks */
            free(p);
            __atomic_store_n(&turn, now + 1, __ATOMIC_RELEASE);
        }
        sched_yield();
        now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void look_at(const char *what, const mod_alloc_stats *stats) {
    CHECK(stats->peak_bytes <= highest, "%s: a peak of %" PRIu64 ", where %" PRIu64 " was live at most", what,
          stats->peak_bytes, highest);
}

static void look(mod_alloc_profiler *longer, int n) {
    static uint64_t last;
    const mod_alloc_stats now = whole_now();
    look_at("snapshot", &now);
    CHECK(now.current_bytes <= now.peak_bytes, "%" PRIu64 " are live, the peak is %" PRIu64,
          now.current_bytes, now.peak_bytes);
    CHECK(now.peak_bytes >= last, "the peak falls from %" PRIu64 " to %" PRIu64, last, now.peak_bytes);
    last = now.peak_bytes;
    if (n % 4 != 0) {
        return;
    }
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    mod_alloc_profiler_start(&window);
    mod_alloc_profiler_stop(&window, &stats);
    look_at("window", &stats);
    if (n % 64 == 0) { /* overlapping with the short ones */
        mod_alloc_profiler_stop(longer, &stats);
        look_at("longer window", &stats);
        mod_alloc_profiler_start(longer);
    }
    if (n % 256 == 0) {
        mod_alloc_reset();
        last = 0;
    }
}

int main(void) {
    whole_begin();
    void *p = malloc(SIZE);
    const uint64_t block = malloc_usable_size(p);
    free(p);
    pthread_t thread[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, take_turns, (void *)(intptr_t)i) == 0, "no thread");
    }
    pthread_barrier_wait(&barrier); /* all stand */
    mod_alloc_reset();
    highest = whole_now().current_bytes + block;
    mod_alloc_profiler all, longer;
    mod_alloc_profiler_start(&all);
    mod_alloc_profiler_start(&longer);
    pthread_barrier_wait(&barrier);
    for (int n = 1; __atomic_load_n(&turn, __ATOMIC_RELAXED) < TURNS; n++) {
        look(&longer, n);
    }
    pthread_barrier_wait(&barrier);
    mod_alloc_stats stats;
    mod_alloc_profiler_stop(&longer, NULL);
    mod_alloc_profiler_stop(&all, &stats);
    look_at("window over all", &stats);
    const uint64_t slack = THREADS * (uint64_t)MOD_ALLOC_PEAK_SLACK; /* main is one more */
    CHECK(stats.peak_bytes + slack >= highest, "window over all: a peak of %" PRIu64 ", %" PRIu64 " was live",
          stats.peak_bytes, highest);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    return whole_end();
}
